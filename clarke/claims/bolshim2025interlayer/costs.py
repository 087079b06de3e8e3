"""Claims of Bolshim and Kugaevskikh (2025) about costs, storage and approximations."""
