"""Claims of Bolshim and Kugaevskikh (2025) about subdifferentials, kinks and the minimum-norm element."""
