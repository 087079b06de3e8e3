"""Claims of the seminar of Kornilov: closed-form derivatives, and passes over a graph."""
