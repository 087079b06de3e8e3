"""(H + lambda I)^-1 r of a network, linear in depth: the methods against each other, and against what one would do.

    depth      time of one call at several depths and the slope fitted in log-log, with the residual
    others     the dense matrix (LDL^T here; numpy's LU), SuperLU of the lift, CG and MINRES by Hessian-vector products
    near       MINRES with the inverse at a nearby damping or at other parameters as preconditioner
    auto       "auto" over the best of the methods tried one by one
    large      two million parameters in dense layers

Every call starts from the network, its node values known: derivatives, lift, factorization, solution and residual
included. One process, one thread, float64; CPU time, the least of three. Run as:

    python benchmarks/inverse.py [--quick] [--only PART]
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import gc
from time import process_time

import numpy as np
from scipy.sparse.linalg import LinearOperator, cg, minres

import clarke
from clarke import layers, models
from clarke.blocks import hessian_blocks
from clarke.eliminations import UnsuitableMethod
from clarke.inverse import inverse_hessian_product

METHODS = ("banded", "riccati", "sparse", "compressed", "dense")


def seconds(call, repeats=3):
    """(the least CPU time, the last result)."""
    best, found = np.inf, None
    gc.collect()
    gc.disable()  # as timeit does
    for _ in range(repeats):
        start = process_time()
        found = call()
        best = min(best, process_time() - start)
    gc.enable()
    return best, found


def warm(network):
    """The network with the values of its nodes known."""
    for _, _, parents in network.losses:
        for parent in parents:
            network.value(parent)
    return network


def solve(network, r, method, damping=1.0, repeats=3):
    """(time, result) or None where the method does not serve."""
    try:
        return seconds(lambda: inverse_hessian_product(network, r, damping=damping, method=method), repeats)
    except UnsuitableMethod:
        return None


# ---------------------------------------------------------------- networks


def residual_chain(depth, rng):
    return warm(models.residual_chain(depth, 4, rng=rng))


def dense(depth, width, rng, samples=1):
    inputs, targets = rng.normal(size=(samples, width)), rng.normal(size=(samples, width))
    sizes = (width,) * (depth + 1)
    return warm(clarke.mlp(sizes, activation="tanh", loss="squared", inputs=inputs, targets=targets, rng=rng))


def _layer(network, rng, width, names, above, scale=1.0):
    weight, z, h = names
    network.parameter(weight, rng.normal(scale=scale / np.sqrt(width), size=(width, width)))
    network.node(z, layers.affine, above, weight)
    network.node(h, layers.tanh, z)


def skips(depth, rng, width=4, samples=1):
    """h_l = h_{l-2} + tanh(W_l h_{l-1}) / sqrt(depth)."""
    network = clarke.Network()
    network.input("h-1", rng.normal(size=(samples, width)))
    network.input("h0", rng.normal(size=(samples, width)))
    for k in range(1, depth + 1):
        _layer(network, rng, width, (f"W{k}", f"z{k}", f"t{k}"), f"h{k - 1}", depth**-0.5)
        network.node(f"h{k}", layers.add, f"h{k - 2}", f"t{k}")
    network.loss(layers.squared_error(rng.normal(size=(samples, width))), f"h{depth}")
    return warm(network)


def unet(depth, rng, width=4, samples=1):
    """depth layers down, depth up, each step up joined to its step down."""
    network = clarke.Network()
    network.input("h0", rng.normal(size=(samples, width)))
    for k in range(1, depth + 1):
        _layer(network, rng, width, (f"D{k}", f"d{k}", f"h{k}"), f"h{k - 1}")
    above = f"h{depth}"
    for k in range(depth, 0, -1):
        _layer(network, rng, width, (f"U{k}", f"u{k}", f"g{k}"), above)
        network.node(above := f"s{k}", layers.add, f"g{k}", f"h{k - 1}")
    network.loss(layers.squared_error(rng.normal(size=(samples, width))), above)
    return warm(network)


def recurrent(steps, rng, hidden=4, samples=1):
    inputs, targets = rng.normal(size=(samples, steps, 2)), rng.normal(size=(samples, 2))
    return warm(models.recurrent(hidden, inputs=inputs, targets=targets, activation="tanh", loss="squared", rng=rng))


# ---------------------------------------------------------------- the parts


def depth(rng, quick):
    cases = {
        "residual chain, 4 wide": (
            residual_chain,
            (100, 1000) if quick else (100, 300, 1000, 3000, 10000),
            METHODS[:4],
        ),
        "dense tanh, 4 wide": (
            lambda L, rng: dense(L, 4, rng),
            (50, 200) if quick else (100, 300, 1000, 3000),
            METHODS[:4],
        ),
        "two-step skips, 4 wide": (
            skips,
            (50, 200) if quick else (100, 300, 1000, 3000),
            ("banded", "sparse", "compressed"),
        ),
        "U-net, 4 wide": (unet, (25, 100) if quick else (50, 150, 500, 1500), ("sparse", "compressed")),
    }
    for name, (build, depths, methods) in cases.items():
        print(f"\n{name}: milliseconds at depth {', '.join(map(str, depths))}")
        times, residuals = {m: [] for m in methods}, {m: 0.0 for m in methods}
        for L in depths:
            network = build(L, rng)
            r = rng.normal(size=network.size)
            for method in methods:
                spent, found = solve(network, r, method)
                times[method].append(spent)
                residuals[method] = max(residuals[method], found.residual)
        for method, spent in times.items():
            slope = np.polyfit(np.log(depths), np.log(spent), 1)[0]
            row = " ".join(f"{1e3 * t:9.1f}" for t in spent)
            print(f"  {method:11s} {row}   slope {slope:.2f}   residual <= {residuals[method]:.0e}")


def others(rng, quick):
    L = 200 if quick else 2000
    network = residual_chain(L, rng)
    n = network.size
    r = rng.normal(size=n)
    print(f"\nresidual chain, depth {L}, {n} parameters, damping 1")
    base, found = solve(network, r, "banded", repeats=5)
    print(f"  {'banded':36s} {1e3 * base:10.1f} ms           residual {found.residual:.0e}")

    def report(name, spent, x):
        left = hessian_blocks(network).operator() @ x + x - r
        size = np.linalg.norm(left) / np.linalg.norm(r)
        print(f"  {name:36s} {1e3 * spent:10.1f} ms  x {spent / base:7.1f}  residual {size:.0e}")

    for method in ("sparse", "dense"):
        spent, found = solve(network, r, method, repeats=1 if method == "dense" else 3)
        report({"sparse": "SuperLU of the lift", "dense": "the dense matrix, LDL^T"}[method], spent, found.solution)

    def by_numpy():
        H = np.array(hessian_blocks(network).dense())
        H[np.diag_indices(n)] += 1.0
        return np.linalg.solve(H, r)

    report("the dense matrix, numpy.linalg.solve", *seconds(by_numpy, 1))
    for name, method in (("MINRES", minres), ("CG", cg)):
        count = []

        def by_products(method=method, count=count):
            count.clear()
            H = hessian_blocks(network).operator()
            A = LinearOperator((n, n), matvec=lambda v: H @ v + v, dtype=float)
            return method(A, r, rtol=1e-10, maxiter=2000, callback=lambda _: count.append(1))[0]

        report_of = seconds(by_products, 1)
        report(f"{name}, {len(count)} products" if len(count) < 2000 else f"{name}, stopped at 2000", *report_of)


def near(rng, quick):
    """MINRES at one damping, preconditioned by the inverse at another and at other parameters."""
    L = 50 if quick else 300
    network = residual_chain(L, rng)
    n, r = network.size, rng.normal(size=network.size)
    lowest = -np.linalg.eigvalsh(hessian_blocks(network).dense())[0]
    damping = 1.01 * max(lowest, 0.0) + 1e-3  # H + damping I is positive definite, and barely so
    print(f"\nMINRES to 1e-8, residual chain of depth {L}, damping {damping:.4g}: products with H")
    H = hessian_blocks(network).operator()
    A = LinearOperator((n, n), matvec=lambda v: H @ v + damping * v, dtype=float)
    moved = warm(network.at(network.point() + 1e-3 * rng.normal(size=n)))
    preconditioners = {
        "none": None,
        "inverse at 1.1 x the damping": inverse_hessian_product(network, r, damping=1.1 * damping).operator(),
        "inverse at 2 x the damping": inverse_hessian_product(network, r, damping=2 * damping).operator(),
        "the same, parameters moved": inverse_hessian_product(moved, r, damping=1.1 * damping).operator(),
    }
    for name, M in preconditioners.items():
        count = []
        x, _ = minres(A, r, M=M, rtol=1e-8, maxiter=5000, callback=lambda _, count=count: count.append(1))
        print(f"  {name:32s} {len(count):6d}   residual {np.linalg.norm(A @ x - r) / np.linalg.norm(r):.0e}")


def auto(rng, quick):
    builds = {f"residual chain {L}": (lambda L=L: residual_chain(L, rng)) for L in (5, 20, 100, 500, 2000)}
    for L, width, samples in (
        *((3, 4, 1), (3, 4, 20), (10, 4, 1), (10, 8, 4), (40, 4, 1), (40, 8, 2), (4, 32, 1), (4, 20, 16)),
        *((20, 16, 1), (100, 16, 1), (12, 32, 1), (3, 10, 100)),
    ):
        builds[f"dense {L} x {width}, {samples} samples"] = lambda L=L, a=width, N=samples: dense(L, a, rng, N)
    for T, hidden, samples in ((4, 4, 2), (20, 4, 1), (60, 6, 1)):
        builds[f"recurrent {T} x {hidden}"] = lambda T=T, h=hidden, N=samples: recurrent(T, rng, h, N)
    for L, width in ((4, 4), (20, 4), (20, 8), (60, 4)):
        builds[f"U-net {L} x {width}"] = lambda L=L, a=width: unet(L, rng, a)
        builds[f"skips {L} x {width}"] = lambda L=L, a=width: skips(L, rng, a)
    worst = 0.0
    print(f"\n{'auto over the best':28s} {'n':>6s} {'auto':>11s} {'ms':>8s} {'best':>11s} {'ms':>8s} {'ratio':>6s}")
    for name, build in list(builds.items())[:: 4 if quick else 1]:
        network = build()
        r = rng.normal(size=network.size)
        spent, chosen = solve(network, r, "auto", repeats=5)
        tried = {m: solve(network, r, m) for m in METHODS if m != "dense" or network.size <= 6000}
        times = {m: found[0] for m, found in tried.items() if found}
        best = min(times, key=times.__getitem__)
        worst = max(worst, spent / times[best])
        print(
            f"{name:28s} {network.size:6d} {chosen.method:>11s} {1e3 * spent:8.2f} {best:>11s} {1e3 * times[best]:8.2f}"
            f" {spent / times[best]:6.2f}"
        )
    print(f"worst ratio {worst:.2f}")


def large(rng, quick):
    L, width = (50, 64) if quick else (500, 64)
    network = dense(L, width, rng)
    spent, found = solve(network, rng.normal(size=network.size), "auto")
    print(
        f"\n{network.size} parameters, {L} dense tanh layers {width} wide, one sample: "
        f"{spent:.2f} s by {found.method}, residual {found.residual:.0e}"
    )
    spent, signs = seconds(lambda: found.factorization.inertia(), 1)
    print(f"its inertia {signs}: {spent:.2f} s")


PARTS = {"depth": depth, "others": others, "near": near, "auto": auto, "large": large}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=PARTS)
    asked = parser.parse_args()
    for name, part in PARTS.items():
        if asked.only in (None, name):
            part(np.random.default_rng(0), asked.quick)


if __name__ == "__main__":
    main()
