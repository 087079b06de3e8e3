"""Claims of the abstract of Bolshim and Kugaevskikh (2026) on layer traces."""
