"""Species: traits from shared pools, the fish those traits make, and invented names."""

import numpy as np

# Name: (half range of individual variation, lowest, highest).
PARAMETERS = {
    "aspect": (0.07, 0.2, 0.9),
    "taper": (0.1, -0.2, 0.5),
    "fork": (0.2, -1.2, 1.3),
    "curve": (0.2, -1.2, 1.3),
    "span": (0.08, 0.2, 0.9),
    "reach": (0.08, 0.25, 0.8),
    "crest": (0.08, 0.0, 0.7),
    "peak": (0.12, 0.1, 0.9),
    "stripe": (0.2, 0.0, 1.0),
    "spot": (0.2, 0.0, 1.0),
    "angle": (0.2, -0.8, 2.6),
    "frequency": (0.2, 0.6, 4.0),
    "phase": (0.5, -1.0, 1.0),
    "mark_red": (0.12, 0.0, 1.0),
    "mark_green": (0.12, 0.0, 1.0),
    "mark_blue": (0.12, 0.0, 1.0),
    "body_red": (0.12, 0.0, 1.0),
    "body_green": (0.12, 0.0, 1.0),
    "body_blue": (0.12, 0.0, 1.0),
    "fin_red": (0.12, 0.0, 1.0),
    "fin_green": (0.12, 0.0, 1.0),
    "fin_blue": (0.12, 0.0, 1.0),
}

# Trait: (the parameters it sets, in the order of PARAMETERS; the pool of its values).
TRAITS = {
    "shape": (
        ("aspect", "taper"),
        {"slender": (0.3, 0.1), "oval": (0.45, 0.2), "deep": (0.6, 0.25), "disc": (0.76, 0.0)},
    ),
    "tail": (
        ("fork", "curve", "span", "reach"),
        {
            "forked": (1.0, 0.0, 0.55, 0.6),
            "truncate": (0.0, 0.0, 0.36, 0.4),
            "round": (0.0, -0.8, 0.45, 0.5),
            "lunate": (0.2, 1.0, 0.75, 0.4),
        },
    ),
    "dorsal": (
        ("crest", "peak"),
        {"low": (0.08, 0.5), "sail": (0.42, 0.75), "swept": (0.42, 0.2)},
    ),
    "pattern": (
        ("stripe", "spot", "angle"),
        {
            "barred": (0.85, 0.0, 0.0),
            "lined": (0.85, 0.0, 1.57),
            "oblique": (0.85, 0.0, 0.78),
            "spotted": (0.0, 0.95, 0.78),
        },
    ),
    "pitch": (
        ("frequency", "phase"),
        {"wide": (1.0, 0.0), "medium": (1.5, 0.3), "fine": (2.1, 0.0)},
    ),
    "marking": (
        ("mark_red", "mark_green", "mark_blue"),
        {
            "black": (0.1, 0.1, 0.14),
            "white": (0.92, 0.93, 0.9),
            "blue": (0.1, 0.2, 0.6),
            "maroon": (0.4, 0.08, 0.15),
        },
    ),
    "palette": (
        ("body_red", "body_green", "body_blue"),
        {
            "yellow": (0.88, 0.74, 0.22),
            "orange": (0.88, 0.46, 0.2),
            "steel": (0.52, 0.6, 0.66),
            "violet": (0.6, 0.45, 0.72),
        },
    ),
    "fins": (
        ("fin_red", "fin_green", "fin_blue"),
        {
            "dusky": (0.2, 0.2, 0.25),
            "pale": (0.85, 0.85, 0.8),
            "golden": (0.92, 0.7, 0.15),
            "scarlet": (0.8, 0.22, 0.2),
        },
    ),
}

_GENERA = (
    "Velichthys", "Corallabris", "Pontodax", "Aurisoma",
    "Thalastes", "Nereilabrus", "Limnopsara", "Zonochaetus",
)  # fmt: skip
_EPITHETS = (
    "vesperus", "quadrifax", "marellae", "tessellifer",
    "borealoides", "undicauda", "pellucens", "orsinii",
)  # fmt: skip


def species_names(classes: int) -> tuple[str, ...]:
    """Invented binomials, at most 64 of them, all different."""
    ways = len(_GENERA)
    return tuple(f"{_GENERA[k % ways]} {_EPITHETS[(k + k // ways) % ways]}" for k in range(classes))


def species_traits(classes: int, twins: int, rng: np.random.Generator) -> np.ndarray:
    """Trait codes `[species, trait]`: far apart, and each value shared by several species.

    Species are chosen one after the other from random candidates: the one that shares fewest
    traits with any species before it, then the one whose values are least used. Then the second
    of each pair of twins becomes the first but for one trait.
    """
    sizes = np.array([len(pool) for _, pool in TRAITS.values()])
    codes = np.empty((0, len(sizes)), np.int64)
    for _ in range(classes):
        candidates = (rng.random((512, len(sizes))) * sizes).astype(np.int64)
        same = candidates[:, None] == codes
        closest = same.sum(2).max(1, initial=0)
        codes = np.vstack([codes, candidates[np.lexsort((same.sum((1, 2)), closest))[0]]])
    for first in range(0, 2 * twins, 2):
        codes[first + 1] = _twin(codes, first, sizes, rng)
    return codes


def _twin(codes: np.ndarray, first: int, sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Species `first` with one trait changed, as far from every other species as that can be."""
    changed = [
        np.where(np.arange(len(sizes)) == trait, value, codes[first])
        for trait, size in enumerate(sizes)
        for value in range(size)
        if value != codes[first, trait]
    ]
    candidates = np.array(changed)[np.argsort(rng.random(len(changed)))]
    others = np.delete(codes, (first, first + 1), axis=0)
    return candidates[(candidates[:, None] == others).sum(2).max(1, initial=0).argmin()]


def individuals(codes: np.ndarray, distance: float, jitter: np.ndarray) -> np.ndarray:
    """Parameters `[example, parameter]` of trait codes `[example, trait]`.

    Prototypes stand `distance` times as far from the mean of each pool as the pool says.
    """
    parts = []
    for code, (_, pool) in zip(codes.T, TRAITS.values(), strict=True):
        values = np.array(list(pool.values()))
        mean = values.mean(axis=0)
        parts.append((mean + distance * (values - mean))[code])
    half, low, high = np.array(list(PARAMETERS.values())).T
    return np.clip(np.concatenate(parts, axis=1) + half * jitter, low, high)
