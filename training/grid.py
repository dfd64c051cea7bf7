"""A grid: recipes, or variants of recipes, that are run with several seeds and compared."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.recipe import Recipe, check_keys, load_yaml

GRID_KEYS = ("recipe", "corpus", "where_published", "variants")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Variant:
    """
    Attributes:
        name: What the tables call it.
        recipe_file: The recipe it starts from.
        overrides: `--field value` pairs, as for `train.py`.
    """

    name: str
    recipe_file: Path
    overrides: tuple[str, ...]

    def arguments(self, *more: str) -> list[str]:
        """Command line for `train.py`."""
        return [str(self.recipe_file), *self.overrides, *more]

    def recipe(self, *more: str) -> Recipe:
        """The recipe that this gives, checked."""
        try:
            return Recipe.from_command_line(self.arguments(*more))
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None

    @property
    def folder(self) -> str:
        """The name as a folder's."""
        return re.sub(r"[^\w.-]+", "_", self.name).strip("_.")


def expand(files: Sequence[str | Path], overrides: Sequence[str] = (), corpus: str | None = None) -> list[Variant]:
    """
    The variants of recipes and grids.

    A grid is a YAML file with `variants`: a mapping from names to fields of the recipe, dotted ones among them
    (`model.tasks: [M, T]`), as on the command line of `train.py`. `recipe` is the recipe that they change, beside the
    grid; a variant may name another one. `{corpus}` in it stands for `corpus`, the grid's default or the argument.
    With `where_published: true`, variants that have no recipe for the corpus are left out, with a warning.

    Args:
        files: Recipes and grids, in the order of the tables.
        overrides: `--field value` pairs for all of them, after their own.
        corpus: Takes the place of every grid's `corpus`, and of that of recipes that name an `architecture`.

    Raises:
        ValueError: for a file that is neither, for unknown keys, and for two variants of one name.
    """
    variants = []
    for file in map(Path, files):
        content = load_yaml(file)
        if isinstance(content, dict) and "variants" in content:
            variants += _of_grid(file, content, overrides, corpus)
        else:
            own = ("--corpus", corpus) if corpus and isinstance(content, dict) and "architecture" in content else ()
            variants.append(Variant(file.stem, file, (*own, *overrides)))
    folders = [variant.folder for variant in variants]
    for variant in variants:
        if not variant.folder:
            raise ValueError(f"A variant's name must have a letter or a digit, for its folder; got {variant.name!r}.")
        if folders.count(variant.folder) > 1:
            raise ValueError(f"Two variants are named {variant.name!r}; rename one of the files, or a variant.")
    return variants


def _of_grid(file: Path, content: dict[str, Any], overrides: Sequence[str], corpus: str | None) -> list[Variant]:
    check_keys("", content, GRID_KEYS)
    if not isinstance(content["variants"], dict) or not content["variants"]:
        raise ValueError(f"`variants` of {file} must be a mapping from names to fields of a recipe.")
    corpus = corpus or content.get("corpus")
    variants = []
    for name, fields in content["variants"].items():
        if fields is not None and not isinstance(fields, dict):
            raise ValueError(f"{file}: variant {name!r} must be a mapping from fields of a recipe to values.")
        fields = dict(fields or {})
        template = fields.pop("recipe", content.get("recipe"))
        if template is None:
            raise ValueError(f"{file}: neither the grid nor its variant {name!r} names a `recipe`.")
        template = str(template)
        if "{corpus}" in template and corpus is None:
            raise ValueError(f"{file}: `recipe` is {template!r}; say which corpus with --corpus.")
        recipe = file.parent / template.replace("{corpus}", str(corpus))
        if content.get("where_published") and "{corpus}" in template and not recipe.exists():
            logger.warning(f"{name} is left out: there is no recipe {recipe.name}.")
            continue
        own = [f"--{field}={json.dumps(value, ensure_ascii=False)}" for field, value in fields.items()]
        variants.append(Variant(str(name), recipe, (*own, *overrides)))
    return variants
