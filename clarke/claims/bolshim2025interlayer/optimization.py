"""Claims of Bolshim and Kugaevskikh (2025) about Newton methods, stopping, and the limits they name."""
