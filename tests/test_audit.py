import json
import multiprocessing
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import pytest
from ibnseg_tools import audit as tools_audit
from ibnseg_tools import test as tools_test
from mmengine.registry import DefaultScope
from PIL import Image

from ibnseg import audit, disk, domains, labels, miniature, workers
from ibnseg.audit import KINDS, facts
from ibnseg.domains import DOMAINS, DataError
from ibnseg.train import checks
from ibnseg.train.config import load_config

ROOT = Path(__file__).parents[1]
DRAWN = [row.name for row in DOMAINS.values() if row.folder in miniature.LAYOUTS]


@pytest.fixture(scope='session')
def drawn(tmp_path_factory) -> Path:
    """A data root with every dataset, tiny. Not to be changed."""
    root = tmp_path_factory.mktemp('drawn')
    worlds = list(dict.fromkeys(DOMAINS[name].folder for name in DRAWN))
    worlds.remove('acdc')  # needs one frame of each weather
    miniature.write(root, worlds, train=3, val=3, size=(64, 128), workers=1)
    miniature.write(root, ['acdc'], train=4, val=4, size=(64, 128), workers=1)
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


@pytest.fixture(scope='module')
def warm(tmp_path_factory) -> Path:
    """One cache for all the damages: what they leave whole is decoded once."""
    return tmp_path_factory.mktemp('cache')


class Target:
    """A copy of a dataset to do damage to: its first pair in the split that its name stands for.

    `other` is the next pair there, `far` one of a split that shares none with it.
    """

    def __init__(self, name: str, root: Path):
        self.name, self.root = name, root
        self.row, self.split = domains.parse(name)
        self.folder = self.row.root(root)
        self.encoding = labels.space(self.row.space).encoding
        (self.photo, self.label), self.other, *_ = self.pairs[self.split]
        self.bytes = self.photo.read_bytes(), self.label.read_bytes()

    @cached_property
    def pairs(self) -> dict[str, domains.Pairs]:
        found = {}
        for split in self.row.splits:
            try:
                found[split] = domains.find(f'{self.name}:{split}', self.root)
            except DataError:
                continue  # a miniature has no test split
        return found

    @property
    def far(self) -> tuple[Path, Path]:
        here = {photo for photo, _ in self.pairs[self.split]}
        return next(
            pairs[0]
            for split, pairs in self.pairs.items()
            if split.partition('/')[0] != self.split.partition('/')[0]
            and not here & {photo for photo, _ in pairs}
        )

    @property
    def photos(self) -> list[Path]:
        """All that share the label."""
        return list(
            {p for pairs in self.pairs.values() for p, truth in pairs if truth == self.label}
        )

    @cached_property
    def ids(self) -> np.ndarray:
        return domains.read_raw(self.label, self.row.space)

    def id(self, wanted: Callable[[int], bool]) -> int | None:
        possible = np.flatnonzero(labels.possible(self.row.space))
        return next((int(i) for i in possible if wanted(labels.lut(self.row.space)[i])), None)

    def draw(self, ids: np.ndarray) -> None:
        """Write a label in the encoding of the dataset."""
        space = labels.space(self.row.space)
        if self.encoding == 'index':
            Image.fromarray(ids.astype(np.uint8)).save(self.label, format='png')
        elif self.encoding == 'red16':
            red = np.zeros((*ids.shape, 3), np.uint16)
            red[..., 2] = ids
            self.label.write_bytes(cv2.imencode('.png', red)[1].tobytes())
        elif self.encoding == 'colour':
            Image.fromarray(np.array(space.colours, np.uint8)[ids]).save(self.label, format='png')
        else:
            self.polygons([(space.names[ids[y, x]], x, y) for y, x in np.ndindex(*ids.shape)],
                          ids.shape)  # fmt: skip

    def polygons(self, points: list[tuple[str, int, int]], shape: tuple[int, int]) -> None:
        content = dict(
            imgHeight=shape[0],
            imgWidth=shape[1],
            objects=[dict(label=name, polygon=[[x, y], [x, y]]) for name, x, y in points],
        )
        self.label.write_text(json.dumps(content))

    def redraw(self, change: Callable[[Image.Image], Image.Image], **how) -> None:
        """Change the photo's pixels, in its own format."""
        with Image.open(self.photo) as image:
            changed, form = change(image.copy()), how.pop('format', image.format)
        changed.save(self.photo, format=form, **how)


# ------------------------------------------------------------------------------ the damages
# Each does one kind of damage and returns what the audit must find, and that alone: (kind, file).


def only(holds: Callable[[domains.Domain], bool]) -> Callable:
    """Mark a damage as one of those datasets only."""

    def mark(damage):
        damage.only = holds
        return damage

    return mark


def encoding(row: domains.Domain) -> str:
    return labels.space(row.space).encoding


def photo_missing(t):
    t.photo.unlink()
    return [('label-alone', t.label)]


def label_missing(t):
    t.label.unlink()
    if t.name == 'foggy_cityscapes':  # reads cityscapes' own where it lacks some
        (t.root / 'cityscapes' / t.label.relative_to(t.folder)).unlink()
    return [('photo-alone', photo) for photo in t.photos]


def photo_renamed(t):
    moved = t.photo.with_name(f'copy {t.photo.name}')
    t.photo.rename(moved)
    listed = any(moved in t.row.files(t.folder, split)[0].values() for split in t.pairs)
    return [('label-alone', t.label), ('photo-alone' if listed else 'foreign', moved)]


def replaced(which, content, kind):
    def damage(t):
        getattr(t, which).write_bytes(content)
        return [(kind, getattr(t, which))]

    return damage


def cut(which, share):
    def damage(t):
        path = getattr(t, which)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        return [('damaged', path)]

    return damage


def bit_flipped(which):
    def damage(t):
        path = getattr(t, which)
        content = bytearray(path.read_bytes())
        # In a JPEG, that of its header alone is sure to show; in a PNG, every one.
        mark = next(mark for mark in (b'IDAT', b'\xff\xc0', b'{') if mark in content)
        content[content.index(mark) + {b'IDAT': 40, b'\xff\xc0': 2, b'{': 1}[mark]] ^= 1
        path.write_bytes(content)
        return [('damaged', path)]

    return damage


def is_folder(which):
    def damage(t):
        getattr(t, which).unlink()
        getattr(t, which).mkdir()
        return [('unreadable', getattr(t, which))]

    return damage


def dangling_link(t):
    t.label.unlink()
    t.label.symlink_to(t.label.with_name('gone'))
    return [('unreadable', t.label)]


def turned_by_tag(orientation):
    def damage(t):
        exif = Image.Exif()
        exif[0x0112] = orientation
        t.redraw(lambda image: image, exif=exif.tobytes())
        return [('orientation', t.photo)]

    return damage


@only(lambda row: encoding(row) != 'polygons')
def label_turned_by_tag(t):
    exif = Image.Exif()
    exif[0x0112] = 3
    chunk = b'eXIf' + exif.tobytes()[6:]
    chunk = struct.pack('>I', len(chunk) - 4) + chunk + struct.pack('>I', zlib.crc32(chunk))
    content = t.label.read_bytes()
    t.label.write_bytes(content[:33] + chunk + content[33:])
    return [('orientation', t.label)]


def published_colours(space):
    """Those of a label's palette; grey where none are published."""
    colours = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
    published = labels.space(space).colours or ()
    colours[: len(published)] = np.reshape(published, (-1, 3))
    return colours


@only(lambda row: encoding(row) == 'index')
def palette_shortened(t):
    """As image optimisers do: each pixel has its colour, but another id."""
    used, index = np.unique(t.ids, return_inverse=True)
    image = Image.fromarray(index.reshape(t.ids.shape).astype(np.uint8))
    image.putpalette(published_colours(t.row.space)[used].tobytes())
    image.save(t.label, format='png')
    return [('palette', t.label)] if used[-1] >= len(used) else []


@only(lambda row: encoding(row) == 'index')
def label_of_few_bits(t):
    rows = np.insert(np.zeros((t.ids.shape[0], t.ids.shape[1] // 2), np.uint8), 0, 0, axis=1)
    rows[1:9, 1:9] = 0x10
    header = struct.pack('>IIBBBBB', *t.ids.shape[::-1], 4, 0, 0, 0, 0)
    chunks = ((b'IHDR', header), (b'IDAT', zlib.compress(rows.tobytes())), (b'IEND', b''))
    t.label.write_bytes(b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
        for kind, body in chunks))  # fmt: skip
    return [('encoding', t.label)]


def redrawn(change, *kinds, **how):
    def damage(t):
        t.redraw(change, **how)
        return [(kind, t.photo) for kind in kinds]

    return damage


def in_16_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16) * 257)


def label_drawn(change, kind):
    def damage(t):
        t.draw(change(t))
        return [(kind, t.label)]

    return damage


def photo_of_another_shape(change, kind):
    def damage(t):
        t.redraw(change)
        odd = [('odd-size', t.photo)] if t.row.size else []
        return [(kind, t.label), *odd]

    return damage


@only(lambda row: row.size)
def pair_scaled(t):
    t.redraw(lambda image: image.resize((64, 32)))
    t.draw(t.ids[::2, ::2])
    sizes = [('size', t.label)] if len(t.photos) > 1 else []  # of the other photos with it
    return [('odd-size', t.photo), *sizes]


def label_in_colour(t):
    palette = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    Image.fromarray(palette[t.ids]).save(t.label, format='png')
    kinds = dict(index='colour', red16='colour', colour='ids', polygons='wrong-type')
    return [(kinds[t.encoding], t.label)]


def label_in_another_depth(t):
    depth = np.uint8 if t.encoding == 'colour' else np.uint16
    Image.fromarray(t.ids.astype(depth)).save(t.label, format='png')
    return [('wrong-type' if t.encoding == 'polygons' else 'encoding', t.label)]


@only(lambda row: encoding(row) != 'polygons')
def label_as_jpeg(t):
    with Image.open(t.label) as image:
        image.convert('RGB' if t.encoding == 'colour' else 'L').save(t.label, format='jpeg')
    return [('lossy', t.label)]


@only(lambda row: encoding(row) == 'polygons')
def label_without_its_size(t):
    t.label.write_text('{"imgWidth": 128, "objects": []}')
    return [('damaged', t.label)]


def unknown_id(t):
    if t.encoding in ('index', 'red16'):
        ids = t.ids.copy()
        ids[3, 5:9] = np.flatnonzero(~labels.possible(t.row.space))[-1]
        t.draw(ids)
    elif t.encoding == 'colour':
        with Image.open(t.label) as image:
            image.putpixel((5, 3), (1, 2, 3))
            image.save(t.label)
    else:
        t.polygons([('road', 0, 0), ('spaceship', 5, 3)], t.ids.shape)
    return [('ids', t.label)]


training_classes = only(lambda row: row.space in ('cityscapes', 'gta5', 'kitti'))(
    label_drawn(lambda t: labels.lut(t.row.space)[t.ids], 'train-ids')
)


def of_one_id(holds):
    return lambda t: np.full_like(t.ids, t.id(holds))


@only(lambda row: encoding(row) == 'polygons')
def without_polygons(t):
    t.polygons([], t.ids.shape)
    return [('all-ignored', t.label)]


def label_is_the_photo(t):
    shutil.copy(t.photo, t.label)
    if t.encoding == 'polygons':
        return [('wrong-type', t.label)]
    if len(t.photos) > 1:  # which the others share: to them it is a colour rendering
        return [('same-file', t.label), ('colour', t.label)]
    return [('same-file', t.label)]


def exchanged(t):
    photo, label = t.bytes
    t.photo.write_bytes(label)
    t.label.write_bytes(photo)
    if t.encoding == 'polygons':
        return [('wrong-type', t.photo), ('wrong-type', t.label)]
    shared = [('lossy' if photo[:2] == b'\xff\xd8' else 'colour', t.label)]
    return [('swapped', t.label), *(shared if len(t.photos) > 1 else [])]


def photo_twice(t):
    shutil.copy(t.photo, t.other[0])
    return [('duplicate', t.other[0])]


@only(lambda row: len(row.splits) > 1)
def photo_in_two_splits(t):
    shutil.copy(t.photo, t.far[0])
    trains = any('train' in split for split, pairs in t.pairs.items() if t.far in pairs)
    assert trains  # the copy to leave out is the training's
    return [('leak', t.far[0])]


def label_twice(t):
    shutil.copy(t.label, t.other[1])
    return [('same-label', max(t.label, t.other[1]))]


DAMAGES = {
    'photo missing': photo_missing,
    'label missing': label_missing,
    'photo renamed': photo_renamed,
    'photo empty': replaced('photo', b'', 'empty'),
    'label empty': replaced('label', b'', 'empty'),
    'photo cut in its middle': cut('photo', 0.5),
    'photo cut in its header': cut('photo', 0.01),
    'label cut in its middle': cut('label', 0.5),
    'photo is a web page': replaced(
        'photo', b'<!DOCTYPE html><html>Please log in</html>', 'wrong-type'
    ),
    'label is a pointer': replaced(
        'label', b'version https://git-lfs.github.com/spec/v1\n', 'wrong-type'
    ),
    'label of zeros': replaced('label', bytes(5000), 'wrong-type'),
    'bit flipped in the photo': bit_flipped('photo'),
    'bit flipped in the label': bit_flipped('label'),
    'photo is a folder': is_folder('photo'),
    'label is a folder': is_folder('label'),
    'label is a dangling link': dangling_link,
    'photo turned by a tag': turned_by_tag(6),
    'photo upside down by a tag': turned_by_tag(3),
    'photo mirrored by a tag': turned_by_tag(2),
    'label turned by a tag': label_turned_by_tag,
    'palette shortened': palette_shortened,
    'label of few bits': label_of_few_bits,
    'photo black': redrawn(lambda image: Image.new('RGB', image.size), 'constant'),
    'photo grey': redrawn(lambda image: image.convert('L'), 'grey'),
    'photo grey in three channels': redrawn(
        lambda image: image.convert('L').convert('RGB'), 'grey', format='png'
    ),
    'photo with alpha': redrawn(lambda image: image.convert('RGBA'), 'photo-form', format='png'),
    'photo in 16 bits': redrawn(in_16_bits, 'grey', 'photo-form', format='png'),
    'photo in floats': redrawn(lambda image: image.convert('F'), 'depth', format='tiff'),
    'photo turned': photo_of_another_shape(
        lambda image: image.transpose(Image.Transpose.ROTATE_90), 'rotated'
    ),
    'photo scaled': photo_of_another_shape(lambda image: image.resize((96, 48)), 'size'),
    'label turned': label_drawn(lambda t: np.rot90(t.ids), 'rotated'),
    'label cropped': label_drawn(lambda t: t.ids[:-1], 'size'),
    'pair scaled': pair_scaled,
    'label in colour': label_in_colour,
    'label in another depth': label_in_another_depth,
    'label as JPEG': label_as_jpeg,
    'label without its size': label_without_its_size,
    'unknown id': unknown_id,
    'training classes': training_classes,
    'label without a class': label_drawn(
        of_one_id(lambda label: label == labels.IGNORE), 'all-ignored'
    ),
    'label without polygons': without_polygons,
    'label of one class': label_drawn(
        of_one_id(lambda label: label != labels.IGNORE), 'single-class'
    ),
    'label is the photo': label_is_the_photo,
    'photo and label exchanged': exchanged,
    'photo twice': photo_twice,
    'photo in two splits': photo_in_two_splits,
    'label twice': label_twice,
}


@pytest.fixture
def target(drawn, tmp_path):
    """name -> a copy of that dataset, to damage."""
    return lambda name: Target(name, copy(drawn, tmp_path / 'my data', name))


def copy(drawn: Path, root: Path, *names: str) -> Path:
    folders = {DOMAINS[name].folder for name in names}
    if 'foggy_cityscapes' in folders:
        folders.add('cityscapes')  # has its labels
    for folder in folders:
        shutil.copytree(drawn / folder, root / folder, dirs_exist_ok=True)
    return root


@pytest.fixture(scope='module')
def mended(drawn, tmp_path_factory):
    """name -> one copy of that dataset, whole again for each test."""
    copies: dict[str, tuple[Target, dict[Path, tuple[bytes, os.stat_result]]]] = {}

    def get(name: str) -> Target:
        if name not in copies:
            t = Target(name, copy(drawn, tmp_path_factory.mktemp('mended') / 'my data', name))
            files = [path for path in t.root.rglob('*') if path.is_file()]
            copies[name] = t, {path: (path.read_bytes(), path.stat()) for path in files}
        t, whole = copies[name]
        for path in sorted(t.root.rglob('*'), reverse=True):
            if path not in whole and (path.is_symlink() or path.is_file()):
                path.unlink()
            elif path in whole and path.is_dir():
                path.rmdir()
        for path, (content, stat) in whole.items():
            if path.is_symlink():
                path.unlink()
            if not path.exists() or path.stat().st_mtime_ns != stat.st_mtime_ns:
                path.write_bytes(content)
                os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        return t

    return get


#: Errors about what a label means: train, test and score refuse the file as well.
OF_A_LABEL = ('lossy', 'palette', 'train-ids', 'ids', 'colour', 'encoding', 'orientation')
OF_THE_SET = ('absent', 'count', 'resized')


def found(report: audit.Report) -> set[tuple[str, Path]]:
    return {(f.kind, f.file) for f in report.findings if f.kind not in OF_THE_SET}


def look(target: Target) -> audit.Report:
    return audit.audit(target.name, target.root, workers=1)


CASES = [
    (name, damage)
    for name in DRAWN
    for damage, do in DAMAGES.items()
    if getattr(do, 'only', bool)(DOMAINS[name])
]


def test_every_domain_is_damaged():
    assert set(DRAWN) == set(DOMAINS)


@pytest.mark.parametrize(('name', 'damage'), CASES)
def test_damage_is_found_and_nothing_else(mended, warm, monkeypatch, name, damage):
    monkeypatch.setenv('XDG_CACHE_HOME', str(warm))
    t = mended(name)
    expected = set(DAMAGES[damage](t))
    report = look(t)
    assert found(report) == expected
    for kind, file in expected & {(kind, t.label) for kind in OF_A_LABEL}:
        with pytest.raises(DataError) as caught:
            domains.read_labels(file, t.row.space)
        assert caught.value.kind == kind and str(caught.value).startswith(str(file))
    text = '\n'.join(report.lines(99))
    for kind, file in expected:
        assert f'{KINDS[kind].severity} {kind} (' in text and report.below(file) in text
        assert KINDS[kind].way_out in text


@pytest.mark.parametrize('name', DRAWN)
def test_a_whole_set_has_no_findings(drawn, name):
    report = audit.audit(name, drawn, workers=1)
    assert found(report) == set() and report.errors == []
    assert {f.kind for f in report.findings} <= set(OF_THE_SET)


# ------------------------------------------------------------------------------ the whole set


def of_the_set(report: audit.Report) -> dict[str, list[str]]:
    return {kind: [f.detail for f in report.findings if f.kind == kind] for kind in OF_THE_SET}


def test_counts_against_the_published_ones(target, monkeypatch):
    t = target('cityscapes')
    assert of_the_set(look(t))['resized'] == ['128x64 in 6 photos, published 2048x1024']
    assert of_the_set(look(t))['count'] == [
        "split 'train': 3 pairs, published 2,975",
        "split 'val': 3 pairs, published 500",
    ]
    monkeypatch.setitem(DOMAINS['cityscapes'].splits, 'val', 3)
    monkeypatch.setitem(DOMAINS['cityscapes'].splits, 'train', 3)
    assert of_the_set(look(t))['count'] == []
    shutil.rmtree(t.folder / 'gtFine' / 'train')
    (absent,) = [f for f in look(t).findings if f.kind == 'absent']
    assert (absent.file, absent.splits) == (t.folder / 'gtFine' / 'train', ('train',))


def test_two_files_for_one_place_do_not_end_the_audit(target):
    t = target('camvid')
    twice = t.photo.with_suffix('.jpg')
    shutil.copy(t.photo, twice)
    t.far[1].write_bytes(b'')  # in another split
    assert ('same-name', t.photo) in found(look(t)) or ('same-name', twice) in found(look(t))
    assert ('empty', t.far[1]) in found(look(t))


def test_a_split_alone_and_a_folder_itself(target):
    t = target('gta5')
    t.photo.write_bytes(b'')
    assert found(audit.audit('gta5:train', t.root, workers=1)) == set()
    for root in (t.root, t.folder):
        report = audit.audit('gta5:val', root, workers=1)
        assert found(report) == {('empty', t.photo)}
        assert report.splits == {'val': (3, 6382)}


@pytest.mark.parametrize(
    ('domain', 'expected'),
    [
        ('mars', 'unknown domain'),
        ('gta5:mars', 'no split'),
        ('cityscapes', 'below the data root'),
    ],
)
def test_nothing_to_look_at(tmp_path, domain, expected):
    with pytest.raises(DataError, match=expected):
        audit.audit(domain, tmp_path)


# --------------------------------------------------------------------------------- the cache


@pytest.fixture
def decoded(monkeypatch) -> list[Path]:
    """The files that are decoded from now on."""
    seen, real = [], facts.look
    monkeypatch.setattr(facts, 'look', lambda path, *a: seen.append(path) or real(path, *a))
    return seen


def test_a_file_is_decoded_once(target, decoded):
    t = target('gta5')
    first = look(t)
    assert len(decoded) == first.files == 12 and first.known == 0
    decoded.clear()
    again = look(t)
    assert decoded == [] and again.known == 12
    assert again.findings == first.findings
    t.photo.touch()  # changed on the outside only
    assert look(t).findings == first.findings and decoded == []
    t.photo.write_bytes(t.other[0].read_bytes()[:-60])
    assert ('damaged', t.photo) in found(look(t)) and decoded == [t.photo]
    decoded.clear()
    t.root.rename(t.root.with_name('elsewhere'))
    moved = audit.audit('gta5', t.root.with_name('elsewhere'), workers=1)
    assert decoded == [] and moved.known == 0
    assert [f.kind for f in moved.errors] == ['damaged']


@pytest.mark.parametrize(
    'change',
    [
        *('', '{', 'null', '\x00', '["a"]\n[1, 2]'),
        lambda text: text[:-9],
        lambda text: text.replace('"size"', '"Size"'),
        lambda text: text.replace(f'({audit.FACTS}, ', '(0, '),
    ],
)
def test_a_broken_cache_is_begun_anew(target, cache, change):
    t = target('gta5')
    look(t)
    (file,) = cache.rglob('gta5.json')
    before = file.read_text()
    after = change if isinstance(change, str) else change(before)
    assert after != before
    file.write_text(after)
    assert look(t).known == 0
    assert look(t).known == 12


def test_a_changed_label_space_is_looked_at_again(target, monkeypatch):
    t = target('gta5')
    look(t)
    changed = replace(labels.space('gta5'), extra=())
    monkeypatch.setitem(labels.spaces.SPACES, 'gta5', changed)
    assert look(t).known == 0


def test_a_cache_that_can_not_be_written_is_told(target, tmp_path, monkeypatch):
    t = target('gta5')
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    report = look(t)
    assert 'nothing is remembered' in '\n'.join(report.lines())
    assert report.files == 12


def test_two_audits_at_once_keep_what_both_found(tmp_path):
    one, two = disk.Store('audit', 'x', 1), disk.Store('audit', 'x', 1)
    jobs = [(tmp_path / name,) for name in 'ab']
    for (path,), store in zip(jobs, (one, two), strict=True):
        path.write_text(path.name)
        store.values(Path.read_text, [(path,)])
    found = disk.Store('audit', 'x', 1).values(Path.read_text, jobs)
    assert found == ({job: job[0].name for job in jobs}, 2)


def test_processes_find_what_one_finds(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, 'FEW', 2)
    root = shutil.copytree(drawn, tmp_path / 'data')
    for photo, label in domains.find('gta5:val', root)[:2]:
        photo.write_bytes(photo.read_bytes()[:500])
        label.write_bytes(b'')
    steps = []
    many = audit.audit('gta5', root, workers=2, progress=lambda *step: steps.append(step))
    assert steps == [(n, 12) for n in range(1, 13)]
    shutil.rmtree(tmp_path / 'cache')
    assert audit.audit('gta5', root, workers=1).findings == many.findings
    assert len(many.errors) == 4


# ------------------------------------------------------------------------------- the command


def command(*words, code: int, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    environment = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
    words = [sys.executable, str(ROOT / 'tools' / 'audit.py'), *map(str, words)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def main(capsys, *words) -> tuple[int, str, str]:
    code = tools_audit.main([str(word) for word in words])
    return code, *capsys.readouterr()


def test_command_of_a_damaged_set(target, tmp_path):
    """As a user types it; the rest of the command in this process."""
    t = target('gta5')
    unknown_id(t)
    done = command('gta5', t.root, '--out', tmp_path / 'a.json', '--write-skip-list',
                   tmp_path / 'skip.txt', code=1)  # fmt: skip
    assert done.stderr == ''
    name = t.photo.name
    assert f'labels/{name}: ids 254 (4 px) do not exist' in done.stdout
    assert '1 error in 1 pair, ' in done.stdout
    assert not list(tmp_path.glob('.*'))
    written = json.loads((tmp_path / 'a.json').read_text())
    assert written['schema'] == 'ibnseg-audit-1'
    assert written['splits']['val'] == dict(pairs=3, published=6382)
    (error,) = [f for f in written['findings'] if f['severity'] == 'error']
    detail = error.pop('detail')
    assert '254' in detail
    assert error == dict(kind='ids', severity='error', file=f'labels/{name}', other=None,
                         splits=['val'])  # fmt: skip
    assert f'\ngta5/images/{name}  # ids\n' in (tmp_path / 'skip.txt').read_text()


def test_exit_codes(target, capsys, monkeypatch):
    t = target('gta5')
    assert main(capsys, 'gta5', t.root)[0] == 0  # warnings: counts
    assert main(capsys, 'gta5', t.root, '--strict')[0] == 1
    for split in t.row.splits:
        monkeypatch.setitem(t.row.splits, split, len(t.pairs.get(split, ())))
    code, out, err = main(capsys, 'gta5', t.root, '--strict')
    assert (code, err) == (0, '') and out.endswith('nothing wrong\n')
    t.photo.write_bytes(b'')
    assert main(capsys, 'gta5', t.root)[0] == 1
    for words in (('mars', t.root), ('gta5', t.root / 'no'), ('gta5:mars', t.root)):
        code, out, err = main(capsys, *words)
        assert (code, out) == (2, '') and err.startswith('error: ')


def test_hostile_names_do_no_harm(target, capsys):
    t = target('cityscapes')
    evil = t.photo.with_name('\x1b[31m[bold]\n_leftImg8bit.png')
    t.photo.rename(evil)
    code, out, _ = main(capsys, 'cityscapes', t.root)
    assert code == 1 and '\x1b' not in out
    assert '\\x1b[31m[bold]\\n_leftImg8bit.png' in out


def test_interrupted_and_continued(target, tmp_path, monkeypatch, cache):
    """Ctrl-C in a terminal goes to all processes of the group."""
    t = target('gta5')
    real = facts.look

    def slow(*job) -> facts.Facts:
        print('at work', flush=True)
        time.sleep(0.3)
        return real(*job)

    def child() -> None:
        os.setsid()
        handle = os.open(tmp_path / 'out', os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(handle, stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, 'w') for stream in (1, 2))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        facts.look, workers.FEW = slow, 2
        sys.exit(tools_audit.main(['gta5', str(t.root), '--workers', '2']))

    process = multiprocessing.get_context('fork').Process(target=child)
    process.start()
    while 'at work' not in (tmp_path / 'out').read_text() if (tmp_path / 'out').exists() else True:
        assert process.is_alive()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    process.join()
    out = (tmp_path / 'out').read_text()
    assert process.exitcode == 130, out
    assert out.replace('at work\n', '') == 'interrupted; the same command continues where it was\n'
    assert not [path for path in cache.rglob('*') if path.name.startswith('.')]
    assert look(t).files == 12


# --------------------------------------------------------------------------------- skip lists


@pytest.mark.parametrize('name', DRAWN)
def test_a_skip_list_leaves_out_what_is_wrong_and_no_more(target, tmp_path, name):
    t = target(name)
    t.photo.write_bytes(b'')
    gone, _ = t.other
    gone.unlink()
    skip_list = tmp_path / 'skip.txt'
    look(t).write_skip_list(skip_list)
    for split, pairs in t.pairs.items():
        left = [pair for pair in pairs if pair[0] not in (t.photo, gone)]
        if left:
            used = domains.use(f'{name}:{split}', t.root, [skip_list])
            assert used.pairs == left == domains.find(f'{name}:{split}', t.root, [skip_list])
            # `gone` is no pair: its label stands alone.
            assert used.skipped == (t.photo in [photo for photo, _ in pairs]) and not used.odd
        else:
            with pytest.raises(DataError, match='skip lists name every pair'):
                domains.find(f'{name}:{split}', t.root, [skip_list])


@pytest.mark.parametrize(
    ('content', 'expected'),
    [
        ('mars/images/x.png', "line 1: 'mars/images/x.png' names no file of a domain"),
        ('# why\ngta5', "line 2: 'gta5'"),
        ('gta5/images/no.png  # ids', 'no.png: the skip list names it, but there is no such'),
        (b'\xff\xfe', 'not text'),
        (None, 'no skip list'),
    ],
)
def test_bad_skip_lists(drawn, tmp_path, content, expected):
    skip_list = tmp_path / 'skip.txt'
    if content is not None:
        skip_list.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=expected):
        domains.find('gta5:val', drawn, [skip_list])


def test_skip_list_changes_the_protocol_where_it_skips(target, drawn, tmp_path):
    t = target('gta5')
    shutil.copytree(drawn / 'cityscapes', t.root / 'cityscapes')
    lists = []
    for photo, _ in t.pairs['val'][:2]:
        lists.append(tmp_path / f'{photo.stem}.txt')
        lists[-1].write_text(f'gta5/images/{photo.name}\n')
    plans = [plan(t.root, skips) for skips in ([], lists[:1], lists[1:], lists)]
    assert [p['gta5:val'].images for p in plans] == [3, 2, 2, 1]
    assert len({p['gta5:val'].hash for p in plans}) == 4
    assert len({p['cityscapes:val'].hash for p in plans}) == 1, 'nothing of it is left out'


def load(root: Path, skip_lists: list[Path]):
    return load_config(
        ROOT / 'configs/miniature/ibn_b.py', data_root=str(root), skip_lists=skip_lists
    )


def plan(root: Path, skip_lists: list[Path]):
    return checks.plan_measurement(load(root, skip_lists))


# ----------------------------------------------------------------------------- before training


def test_training_on_damage_is_refused_until_it_is_skipped(target, drawn, tmp_path, capsys):
    t = target('gta5')
    shutil.copytree(drawn / 'cityscapes', t.root / 'cityscapes')
    with DefaultScope.overwrite_default_scope('mmseg'):
        checks.audit_data(load(t.root, []))
        assert 'audit gta5: 12 files, 0 errors' in capsys.readouterr().out
        photo_in_two_splits(t)  # of train and val, each whole by itself
        unknown_id(t)
        with pytest.raises(DataError) as caught:
            checks.audit_data(load(t.root, []))
        for words in ('error leak (1)', 'error ids (1)', '--write-skip-list skip.txt'):
            assert words in str(caught.value)
        look(t).write_skip_list(tmp_path / 'skip.txt')
        checks.audit_data(load(t.root, [tmp_path / 'skip.txt']))


def test_a_test_is_audited_on_what_it_measures(target, tmp_path, capsys):
    t = target('gta5')
    (tmp_path / 'x.pth').touch()
    words = [ROOT / 'configs/miniature/ibn_b.py', tmp_path / 'x.pth', '--data-root', t.root]
    words += ['--work-dir', tmp_path, '--audit', '--domains', 'gta5:val']
    unknown_id(t)
    assert tools_test.main(list(map(str, words))) == 2
    said = capsys.readouterr()
    assert 'error ids (1)' in said.err and 'The run would use these' in said.err
    assert 'testing' not in said.out


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_of_several_processes_none_waits_for_an_audit(tmp_path, launcher):
    config = load(tmp_path / 'the data', [])
    config.launcher = launcher
    with pytest.raises(ValueError, match=f'--audit with --launcher {launcher}') as caught:
        checks.audit_data(config)
    assert str(caught.value).endswith(
        f"leave --audit away: ibnseg audit gta5 '{tmp_path}/the data' && "
        f"ibnseg audit cityscapes '{tmp_path}/the data'"
    )
