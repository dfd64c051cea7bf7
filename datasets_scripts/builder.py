"""What all builders of this package share: from a source on disk to rows on disk, counted, repaired, reported, whole.

A reader is a subclass of `SourceBuilder` with a subclass of `SourceConfig`: it says which files it reads (`files`),
looks at them (`inspect`) and gives their rows (`read_rows`). Everything else is here: the cache goes by the content of
the source, values are made finite and counted row by row, in as many processes as were asked for, and a report is
written beside the rows. Rows and report go into a folder `*.incomplete`, which is renamed when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import datasets
from datasets.exceptions import DatasetGenerationError

from datasets_scripts.corpora import CORPORA, corpus_of, differences_from_standard
from datasets_scripts.files import room_for
from datasets_scripts.prepared import (
    REPORT_FILE,
    check_ids,
    check_shards,
    delete_beside,
    replaced_folder,
    take_back,
    write_card,
    write_shards,
)
from datasets_scripts.report import ConversionReport
from datasets_scripts.schema import feature_sizes
from datasets_scripts.tally import Tally

# What is held in memory before it is written. Smaller ones save little, and each is looked at when the table is opened.
BATCH_BYTES = 4 << 20
MAX_BATCH_ROWS = 1000


@dataclass
class SourceConfig(datasets.BuilderConfig):
    """Which source to convert. Subclasses add the options of their reader, each with a default.

    Attributes:
        data_file: path of the source, a file or a folder.
        sha256: SHA-256 of the source, in hexadecimal; see `source_sha256`. Computed where it is None, compared where it
            is given. It names the cache folder, so that a changed source is converted again and a moved or copied one
            is not.
        corpus: a name in `corpora.CORPORA`, where the ids do not tell which corpus this is; "none" for none of them.

    Raises:
        FileNotFoundError: there is no `data_file`.
        ValueError: `data_file` is missing, `corpus` is unknown, or `sha256` is not that of the source.
    """

    data_file: str | None = None
    sha256: str | None = None
    corpus: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data_file is None:
            raise ValueError("`data_file` must name the source to convert, but it is None; pass its path.")
        if self.corpus not in (None, "none", *CORPORA):
            raise ValueError(f"`corpus` must be one of {(*CORPORA, 'none')}, but it is {self.corpus!r}; correct it.")
        found = self.content_sha256()
        if self.sha256 is not None and self.sha256.lower() != found:
            raise ValueError(
                f"`sha256` must be that of {self.data_file}, but {self.sha256} came and the source has {found}; "
                "download it again, or pass the SHA-256 of the source that you mean to use."
            )
        self.sha256 = found

    @property
    def path(self) -> Path:
        """The source."""
        return Path(str(self.data_file))

    def files(self) -> list[Path]:
        """The files of the source that decide its rows, sorted; here the source itself, which is a file.

        Raises:
            FileNotFoundError: there is none.
        """
        if not self.path.is_file():
            what = "it is a folder" if self.path.is_dir() else "there is no such file"
            raise FileNotFoundError(f"`data_file` must name a file, but {what}: {self.path}; check the path.")
        return [self.path]

    def content_sha256(self) -> str:
        """The SHA-256 of whatever decides the rows, but for the options."""
        return source_sha256(self.files())

    @classmethod
    def option_names(cls) -> list[str]:
        """Whatever changes the rows or the report of the same source: the fields that are added to the library's."""
        base = {item.name for item in fields(datasets.BuilderConfig)} | {"data_file", "sha256"}
        return [item.name for item in fields(cls) if item.name not in base]

    def chosen_options(self) -> dict[str, Any]:
        """The options by name; those that are None are left out."""
        return {name: value for name in self.option_names() if (value := getattr(self, name)) is not None}

    def create_config_id(self, config_kwargs: dict, custom_features: datasets.Features | None = None) -> str:
        """Name of the cache folder: by content and options, not by path."""
        chosen = json.dumps(self.chosen_options(), sort_keys=True)
        return f"{str(self.sha256)[:32]}-{hashlib.sha256(chosen.encode()).hexdigest()[:8]}"


@dataclass
class Source:
    """What a reader knows of its source before any row is read.

    Attributes:
        features: of the rows, made by `schema.row_features`.
        shards: per split, in the order of `schema.SPLITS`, the pieces that can be read apart from each other, in the
            order of the rows; at least one. What a piece is, is the reader's business; it is sent to worker processes.
        rows: rows per split, where they are known before they are read, for the progress bar.
        row_bytes: bytes of a row in memory, roughly.
        padding: per sequence column, how its padding was found.
        counts: per split and column, what was counted already; see `report.COUNT_DESCRIPTIONS`.
        extractors: what made the features, as in `report.ConversionReport`.
        ignored_keys: what the source holds and was not carried over.
        warnings: what a person should read before training on the rows.
    """

    features: datasets.Features
    shards: dict[str, list[Any]]
    rows: dict[str, int] = field(default_factory=dict)
    row_bytes: int | None = None
    padding: dict[str, str] = field(default_factory=dict)
    counts: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    extractors: dict[str, dict[str, Any]] = field(default_factory=dict)
    ignored_keys: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class SourceBuilder(datasets.GeneratorBasedBuilder):
    """Base of all readers; see the module.

    Class attributes: `SOURCE_FORMAT`, what kind of source it is, for people; `BUILDER_CONFIG_CLASS`, with the reader's
    options; `VERSION`, part of the cache folder: raised when an unchanged source gives other rows.
    """

    BUILDER_CONFIG_CLASS = SourceConfig
    VERSION = datasets.Version("1.0.0")
    SOURCE_FORMAT: ClassVar[str]
    _as_folder = False  # whether the rows become a prepared folder, and not a cached table

    @abstractmethod
    def inspect(self) -> Source:
        """Look at the source, without reading its sequences where the format allows that, and check it.

        Raises:
            ValueError, OSError: the source is faulty. The message names what, the rule, what came and what to do.
        """

    @abstractmethod
    def read_rows(self, split: str, shards: list[Any], tally: Tally) -> Iterator[dict[str, Any]]:
        """Rows of some shards of a split, in order, values as the source has them: not finite ones are repaired later.

        May run in another process than `inspect` did. What is counted on the way goes to `tally.count`. Faults of the
        source that are found here raise ValueError, as in `inspect`.
        """

    def report(self) -> ConversionReport:
        """What the conversion did; `source` is the name that the source has now.

        Raises:
            FileNotFoundError: `download_and_prepare` has not been run.
        """
        path = Path(self._output_dir) / REPORT_FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"there is no {path}; run `download_and_prepare()`, or delete that folder first if it exists."
            )
        return replace(ConversionReport.from_json(path.read_text(encoding="utf-8")), source=self.config.path.name)

    def rows(self) -> datasets.DatasetDict:
        """The splits in numpy format, memory-mapped; see `sources.load_dataset`."""
        return self.as_dataset().with_format("numpy")

    def _info(self) -> datasets.DatasetInfo:
        # The columns depend on the source; `_split_generators` sets the features.
        return datasets.DatasetInfo(description=f"Multimodal sentiment corpus, converted from a {self.SOURCE_FORMAT}.")

    def _download_and_prepare(self, dl_manager: Any, verification_mode: Any, **kwargs: Any) -> None:
        folder = Path(self._output_dir)  # the `*.incomplete` one; a process that was killed may have left files in it
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        super()._download_and_prepare(dl_manager, verification_mode, **kwargs)
        report = self._make_report(_merge_tallies(folder, list(self._source.shards)))
        (folder / REPORT_FILE).write_text(report.to_json(), encoding="utf-8")
        if self._as_folder:
            write_shards(folder, self.dataset_name)
            check_shards(folder, report)
            check_ids(folder)
            write_card(folder, report)
            target = folder.with_name(folder.name.removesuffix(".incomplete"))
            if target.exists():  # the library would delete it file by file
                os.rename(target, replaced_folder(target))

    def _save_info(self) -> None:
        if not self._as_folder:  # for builders; a prepared folder's card and shards say the same
            super()._save_info()

    def write_folder(self, folder: Path, *, num_proc: int | None = None, max_shard_size: str = "500MB") -> None:
        """Convert the source into a prepared folder, see `prepared`; one of that name is replaced by the new one.

        Raises:
            DiskFullError: there is no room for it; nothing of it is there then.
        """
        self._as_folder = True
        take_back(folder)  # but no lock: another conversion may hold it, and this one waits
        try:
            with room_for(folder):
                self.download_and_prepare(
                    str(folder),
                    download_mode=datasets.DownloadMode.FORCE_REDOWNLOAD,
                    num_proc=num_proc,
                    max_shard_size=max_shard_size,
                )
        finally:
            delete_beside(folder)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        try:
            source = self._source = self.inspect()
        except ValueError as error:
            if type(error) is not ValueError or self.config.path.name in str(error):
                raise
            raise ValueError(f"{self.config.path.name}: {error}") from error
        self.info.features = source.features
        if source.row_bytes:
            self._writer_batch_size = min(max(BATCH_BYTES // source.row_bytes, 1), MAX_BATCH_ROWS)
        generators = []
        for split, shards in source.shards.items():
            generator = datasets.SplitGenerator(name=split, gen_kwargs={"split": split, "shards": shards})
            generator.split_info.num_examples = source.rows.get(split)
            generators.append(generator)
        return generators

    def _prepare_split(self, split_generator: Any, num_proc: int | None = None, **kwargs: Any) -> None:
        shards = len(split_generator.gen_kwargs["shards"])
        try:
            super()._prepare_split(split_generator, num_proc=min(num_proc or 1, shards), **kwargs)
        except DatasetGenerationError as error:
            # The reader's own error, which may come from another process, says what is wrong with the source.
            for file in Path(self._output_dir).glob("fault-*.txt"):
                raise ValueError(f"{self.config.path.name}: {file.read_text(encoding='utf-8')}") from error
            raise

    def _generate_examples(self, split: str, shards: list[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
        tally = Tally(split)
        part = uuid.uuid4().hex  # workers write side by side
        try:
            for index, row in enumerate(self.read_rows(split, shards, tally)):
                yield index, tally.take(row)
        except ValueError as error:
            Path(self._output_dir, f"fault-{part}.txt").write_text(str(error), encoding="utf-8")
            raise
        Path(self._output_dir, f"tally-{split}-{part}.json").write_text(json.dumps(tally.to_dict()), encoding="utf-8")

    def _make_report(self, tallies: dict[str, Tally]) -> ConversionReport:
        source, config = self._source, self.config
        counts = {
            split: {
                column: {**source.counts.get(split, {}).get(column, {}), **tally.counts.get(column, {})}
                for column in dict.fromkeys([*source.counts.get(split, {}), *tally.counts])
            }
            for split, tally in tallies.items()
        }
        videos = set().union(*(tally.videos for tally in tallies.values()))
        corpus = corpus_of(videos, config.corpus)
        report = ConversionReport(
            source=config.path.name,
            source_format=self.SOURCE_FORMAT,
            sha256=str(config.sha256),
            bytes=sum(file.stat().st_size for file in config.files()),
            options=config.chosen_options(),
            corpus=corpus,
            rows={split: tally.rows for split, tally in tallies.items()},
            columns=list(source.features),
            feature_sizes=feature_sizes(source.features),
            padding=source.padding,
            counts=counts,
            replaced={split: tally.replaced for split, tally in tallies.items() if tally.replaced},
            lengths={split: tally.length_quartiles() for split, tally in tallies.items()},
            labels={split: tally.labels for split, tally in tallies.items() if tally.labels},
            empty_text={split: tally.empty_text for split, tally in tallies.items()},
            without_modality={split: tally.without_modality for split, tally in tallies.items()},
            emotions={split: tally.emotions for split, tally in tallies.items() if tally.emotions},
            extractors=source.extractors,
            ignored_keys=source.ignored_keys,
            warnings=list(source.warnings),
        )
        if corpus is not None:
            report.warnings.extend(differences_from_standard(corpus, report))
        return report


def source_sha256(files: list[Path]) -> str:
    """The SHA-256 that names a source: of its file; of several, that of the lines "<sha256>  <name>", sorted by name.

    Names are relative to the folder that holds all: the second is what `sha256sum * | sha256sum` prints there.
    """
    digests = [file_sha256(file) for file in files]
    if len(files) == 1:
        return digests[0]
    folder = Path(os.path.commonpath([file.parent for file in files]))
    names = [file.relative_to(folder).as_posix() for file in files]
    lines = sorted((name, f"{digest}  {name}\n") for name, digest in zip(names, digests, strict=True))
    return hashlib.sha256("".join(line for _, line in lines).encode("utf-8")).hexdigest()


def file_sha256(path: Path) -> str:
    """Of one file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _merge_tallies(folder: Path, splits: list[str]) -> dict[str, Tally]:
    """The counts of all workers by split; their files are taken away."""
    merged = {split: Tally(split) for split in splits}
    for file in sorted(folder.glob("tally-*.json")):
        part = Tally.from_dict(json.loads(file.read_text(encoding="utf-8")))
        merged[part.split].add(part)
        os.unlink(file)
    return merged
