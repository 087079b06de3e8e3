"""Claims of the abstract of Bolshim and Kugaevskikh (2026) on networks as DAGs."""
