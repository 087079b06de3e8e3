"""Claims of the abstract of Bolshim and Kugaevskikh (2025) on layer-wise Hessians."""
