"""Claims of Bolshim and Kugaevskikh (2025), the inter-layer Hessian, chapter by chapter."""
