"""The classic nonsmooth suite: clarke.newton against the methods of scipy, from the published starts.

A problem counts as solved to eps when f - optimum <= eps max(1, |optimum|). The methods of scipy get gradients from
autograd where they take them, their tightest tolerances and 20,000 iterations; every method the same function. One
process, one BLAS thread. Then three chained problems with 1,000 variables. Run as:
OMP_NUM_THREADS=1 python benchmarks/newton.py [--quick]
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import warnings
from pathlib import Path
from time import perf_counter, process_time

import autograd
import numpy as np
from scipy.optimize import minimize

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from clarke import classics
from clarke.semismooth import newton

LIMIT = 20_000
METHODS = {
    "clarke.newton": (newton, {}),
    "BFGS": ("BFGS", {"gtol": 1e-12, "maxiter": LIMIT}),
    "L-BFGS-B": ("L-BFGS-B", {"gtol": 1e-12, "ftol": 1e-16, "maxiter": LIMIT, "maxfun": LIMIT}),
    "SLSQP": ("SLSQP", {"ftol": 1e-16, "maxiter": 1000}),
    "trust-constr": ("trust-constr", {"gtol": 1e-12, "xtol": 1e-14, "maxiter": 1000}),
    "Powell": ("Powell", {"xtol": 1e-14, "ftol": 1e-16, "maxiter": LIMIT, "maxfev": 10 * LIMIT}),
    "Nelder-Mead": ("Nelder-Mead", {"xatol": 1e-14, "fatol": 1e-16, "maxiter": LIMIT, "maxfev": LIMIT}),
    "COBYQA": ("COBYQA", {"final_tr_radius": 1e-12, "maxfev": 2000}),
}


def solve(problem, name):
    """(f - optimum relative to max(1, |optimum|), iterations, seconds)."""
    method, options = METHODS[name]
    gradient = autograd.grad(problem.f)
    jac = None if method in (newton, "Nelder-Mead", "Powell", "COBYQA") else lambda x: gradient(np.asarray(x, float))
    began = perf_counter()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            found = minimize(problem.f, problem.start, method=method, jac=jac, options=options)
            value, steps = float(problem.f(found.x)), int(found.get("nit", 0))
        except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
            return np.inf, type(error).__name__, perf_counter() - began
    return (value - problem.optimum) / max(1.0, abs(problem.optimum)), steps, perf_counter() - began


def main():
    names = list(METHODS)
    if "--quick" in sys.argv:
        names = [name for name in names if name not in ("COBYQA", "trust-constr")]
    problems = classics.suite()
    errors, steps, seconds = {}, {}, {}
    for problem in problems:
        for name in names:
            errors[problem.name, name], steps[problem.name, name], seconds[problem.name, name] = solve(problem, name)
    print(f"{'problem':22s}" + "".join(f"{name:>15s}" for name in names))
    for problem in problems:
        cells = (f"{max(errors[problem.name, name], 0):9.0e}{steps[problem.name, name]!s:>6s}" for name in names)
        print(f"{problem.name:22s}" + "".join(cells))
    for eps in (1e-6, 1e-8):
        counts = [sum(errors[p.name, name] <= eps for p in problems) for name in names]
        print(f"{f'solved to {eps:.0e}':22s}" + "".join(f"{count:12d}/{len(problems)}" for count in counts))
    print(f"{'seconds in all':22s}" + "".join(f"{sum(seconds[p.name, m] for p in problems):15.2f}" for m in names))
    print("\n1,000 variables                steps   seconds, of the processor (best of 5)   stationarity")
    for f, start in (
        (classics.chained_cb3_1, 2 * np.ones(1000)),
        (classics.chained_lq, -0.5 * np.ones(1000)),
        (classics.chained_mifflin2, -np.ones(1000)),
    ):
        times, worked = [], []
        for _ in range(5):
            began, working = perf_counter(), process_time()
            found = newton(f, start)
            times.append(perf_counter() - began)
            worked.append(process_time() - working)
        spent = f"{min(times):9.2f} {min(worked):17.2f}"
        print(f"{f.__name__:28s} {found.nit:7d} {spent} {found.stationarity:20.0e}   f = {found.fun:.12g}")


if __name__ == "__main__":
    main()
