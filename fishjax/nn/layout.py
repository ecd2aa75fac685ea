"""Where every parameter of a network belongs: the layer it is part of, and its name there."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

KERNEL = "kernel"
_NO_KERNEL = ("b", "bias", "scale")
_KERNELS = (KERNEL, "w", "weight", "weights")


class Layout(NamedTuple):
    """How a tree of parameters maps to `{layer: {name: array}}`.

    layers: those with a kernel, in the tree's order, numbers in names counted as numbers.
    places: (layer, name) of each leaf of `tree`. A layer is named by its path, joined with "/".
    """

    layers: tuple[str, ...]
    places: tuple[tuple[str, str], ...]
    tree: Any

    def by_layer(self, params: Any) -> dict[str, dict[str, Any]]:
        """The leaves of a tree of this structure by layer; ValueError for another structure."""
        found: dict[str, dict[str, Any]] = {}
        leaves = self.tree.flatten_up_to(params)
        for (layer, name), leaf in zip(self.places, leaves, strict=True):
            found.setdefault(layer, {})[name] = leaf
        return found

    def restored(self, found: Mapping[str, Mapping[str, Any]]) -> Any:
        """The tree whose leaves `found` holds by layer."""
        leaves = [found[layer][name] for layer, name in self.places]
        return jax.tree_util.tree_unflatten(self.tree, leaves)


def layout(params: Any) -> Layout:
    """The layout of any tree of arrays: dictionaries, lists, `nnx.State`, dataclasses.

    A kernel is an array `[..., in, out]` of two axes or more that is no bias or scale. The only
    one of its node, or one called kernel, w, weight or weights, gives the node's name to the
    layer; any other is a layer under its own name.
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(params)
    paths = [path_of(path) for path, _ in leaves]
    kernels = [
        path
        for path, (_, leaf) in zip(paths, leaves, strict=True)
        if leaf.ndim >= 2 and path[-1] not in _NO_KERNEL
    ]
    places = tuple(_place(path, kernels) for path in paths)
    layers = (layer for layer, name in places if name == KERNEL)
    return Layout(tuple(sorted(layers, key=_counted)), places, tree)


def path_of(path: Sequence[Any]) -> tuple[str, ...]:
    """A tree path of JAX as text; the box that Flax puts around an array is left out."""
    attributes = ("key", "idx", "name")
    names = [str(next(getattr(key, a) for a in attributes if hasattr(key, a))) for key in path]
    boxed = len(path) > 1 and path[-1] == jax.tree_util.GetAttrKey("value")
    return tuple(names[:-1] if boxed else names) or ("params",)


def _place(path: tuple[str, ...], kernels: Sequence[tuple[str, ...]]) -> tuple[str, str]:
    *node, name = path
    if path not in kernels:
        return "/".join(node) or name, name
    siblings = [other for other in kernels if other[:-1] == tuple(node)]
    named = node and (name in _KERNELS or len(siblings) == 1)
    return "/".join(node if named else path), KERNEL


def _counted(name: str) -> list[tuple[int, str]]:
    """Sorts conv2 before conv10."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
