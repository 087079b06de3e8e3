"""Claims of Bolshim and Kugaevskikh (2025) about the blocks of the Hessian: formulas, propositions, algorithms."""
