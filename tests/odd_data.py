"""Datasets with one thing wrong, or odd but right: every kind for every domain row.

Each kind changes a copy of a drawn dataset and says what the audit must find there. What training,
testing and scoring make of it follows from that, see `test_odd_data.py`.
"""

import io
import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, PngImagePlugin

from ibnseg import domains, labels, miniature
from ibnseg.domains import DOMAINS, DataError

DRAWN = [row.name for row in DOMAINS.values() if row.folder in miniature.LAYOUTS]


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

    def move(self, which: str, path: Path) -> None:
        """Give the photo or the label another name."""
        getattr(self, which).rename(path)
        setattr(self, which, path)

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


training_classes = only(lambda row: row.space in ('cityscapes', 'gta5', 'kitti', 'idd-level3'))(
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


# ------------------------------------------------------------------------- odd, but legal
# Each leaves every pixel and every id as it was. Returned is as above: what the audit has to say.


def suffix(which, spell):
    def change(t):
        path = getattr(t, which)
        t.move(which, path.with_name(path.stem + spell(path.suffix)))
        return []

    return change


def beside(*names):
    """Files and folders ('/') of systems beside photos and labels."""

    def change(t):
        for folder in (t.photo.parent, t.label.parent):
            for name in names:
                path = folder / name.format(photo=t.photo.name, label=t.label.name)
                path.mkdir() if name.endswith('/') else path.write_bytes(b'\0\5\x16\7')
        return []

    return change


@only(lambda row: encoding(row) in ('index', 'polygons'))
def converted_beside(t):
    """What converters write: passed over by all, since the originals are there."""
    for end in ('_labelTrainIds.png', '_color.png', '_mask.png'):
        name = t.label.stem.removesuffix('_labelIds').removesuffix('_polygons')
        (t.label.with_name(name + end)).write_bytes(b'not read')
    return []


def linked(which):
    def change(t):
        path = getattr(t, which)
        kept = t.root / 'elsewhere' / path.name
        kept.parent.mkdir(exist_ok=True)
        path.rename(kept)
        path.symlink_to(kept)
        return []

    return change


def read_only(t):
    for path in (t.photo, t.label):
        path.chmod(0o444)
    return []


def photo_as(kind, *found, **how):
    """The same pixels in another form."""

    def change(t):
        with Image.open(t.photo) as image:
            pixels = image.convert('RGB')
        buffer = io.BytesIO()
        pixels.save(buffer, kind, **how)
        t.photo.write_bytes(buffer.getvalue())
        return [(one, t.photo) for one in found]

    return change


def photo_in_16_bit_colour(t):
    with Image.open(t.photo) as image:
        pixels = np.asarray(image.convert('RGB')).astype(np.uint16) * 257
    t.photo.write_bytes(cv2.imencode('.png', pixels[..., ::-1])[1].tobytes())
    return [('photo-form', t.photo)]


def photo_opaque(t):
    with Image.open(t.photo) as image:
        image.convert('RGBA').save(t.photo, 'png')
    return [('photo-form', t.photo)]


def photo_with_tag_1(t):
    exif = Image.Exif()
    exif[0x0112] = 1
    with Image.open(t.photo) as image:
        pixels = image.convert('RGB')
    pixels.save(t.photo, 'png', exif=exif)
    return []


def photo_with_notes(t):
    notes = PngImagePlugin.PngInfo()
    notes.add_text('Comment', '<script>alert(1)</script>')
    return photo_as('png', pnginfo=notes)(t)


@only(lambda row: encoding(row) != 'polygons')
def label_packed_anew(t):
    if t.encoding == 'red16':
        image = cv2.imread(str(t.label), cv2.IMREAD_UNCHANGED)
        t.label.write_bytes(cv2.imencode('.png', image, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1])
        return []
    with Image.open(t.label) as image:
        image.copy().save(t.label, 'png', optimize=True)
    return []


@only(lambda row: encoding(row) == 'index')
def label_with_published_palette(t):
    image = Image.fromarray(t.ids)
    image.putpalette(published_colours(t.row.space).tobytes())
    image.save(t.label, 'png')
    return []


@only(lambda row: encoding(row) == 'index')
def label_with_grey_palette(t):
    image = Image.fromarray(t.ids)
    image.putpalette(np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes())
    image.save(t.label, 'png')
    return []


@only(lambda row: encoding(row) == 'colour')
def colours_as_palette(t):
    image = Image.fromarray(t.ids)
    image.putpalette(np.array(labels.space(t.row.space).colours, np.uint8).tobytes())
    image.save(t.label, 'png')
    return []


@only(lambda row: encoding(row) == 'red16')
def instances_in_green(t):
    image = cv2.imread(str(t.label), cv2.IMREAD_UNCHANGED)
    image[..., 1] = np.arange(image.shape[1]) * 300
    t.label.write_bytes(cv2.imencode('.png', image)[1].tobytes())
    return []


@only(lambda row: encoding(row) == 'polygons')
def polygons_written_anew(t):
    content = json.loads(t.label.read_text())
    back = dict(reversed(content.items())) | dict(imgName='é', version=[1, 2])
    t.label.write_text(json.dumps(back, indent=4))
    return []


LEGAL = {
    'photo .SUFFIX': suffix('photo', str.upper),
    'label .SUFFIX': suffix('label', str.upper),
    'photo .Suffix': suffix('photo', lambda end: f'.{end[1:].capitalize()}'),
    'label .Suffix': suffix('label', lambda end: f'.{end[1:].capitalize()}'),
    'files of macOS': beside('._{photo}', '._{label}', '.DS_Store', '__MACOSX/'),
    'files of Windows': beside('Thumbs.db', 'desktop.ini', 'ehthumbs.db'),
    'hidden folder': beside('.ipynb_checkpoints/', '@eaDir/'),
    'converted labels beside': converted_beside,
    'photo is a link': linked('photo'),
    'label is a link': linked('label'),
    'read only': read_only,
    'photo as BMP': photo_as('bmp', 'photo-form'),
    'photo as lossless WebP': photo_as('webp', 'photo-form', lossless=True),
    'photo as packed PNG': photo_as('png', compress_level=9),
    'photo in 16-bit colour': photo_in_16_bit_colour,
    'photo with opaque alpha': photo_opaque,
    'photo with an upright tag': photo_with_tag_1,
    'photo with notes': photo_with_notes,
    'label packed anew': label_packed_anew,
    'label with the published palette': label_with_published_palette,
    'label with a grey palette': label_with_grey_palette,
    'label colours as a palette': colours_as_palette,
    'label with instances in green': instances_in_green,
    'polygons written anew': polygons_written_anew,
}
ODD = DAMAGES | LEGAL


def cases(kinds):
    """All (domain, kind) that make sense together."""
    return [
        (name, kind)
        for name in DRAWN
        for kind in kinds
        if getattr(ODD[kind], 'only', bool)(DOMAINS[name])
    ]


def copy(drawn: Path, root: Path, *names: str) -> Path:
    folders = {DOMAINS[name].folder for name in names}
    if 'foggy_cityscapes' in folders:
        folders.add('cityscapes')  # has its labels
    for folder in folders:
        shutil.copytree(drawn / folder, root / folder, dirs_exist_ok=True)
    return root


def draw(root: Path) -> None:
    """Draw every dataset, tiny."""
    worlds = list(dict.fromkeys(DOMAINS[name].folder for name in DRAWN))
    worlds.remove('acdc')  # needs one frame of each weather
    miniature.write(root, worlds, train=3, val=3, size=(64, 128), workers=1)
    miniature.write(root, ['acdc'], train=4, val=4, size=(64, 128), workers=1)


class Copies:
    """One copy of each dataset, whole again whenever it is asked for."""

    def __init__(self, drawn: Path, folder: Path):
        self.drawn, self.folder = drawn, folder
        self.known: dict[str, tuple[Target, dict[Path, tuple[bytes, os.stat_result]]]] = {}

    def __call__(self, name: str) -> Target:
        if name not in self.known:
            t = Target(name, copy(self.drawn, self.folder / name / 'my data', name))
            files = [path for path in t.root.rglob('*') if path.is_file()]
            self.known[name] = t, {path: (path.read_bytes(), path.stat()) for path in files}
        t, whole = self.known[name]
        t.photo, t.label = t.pairs[t.split][0]
        folders = {above for path in whole for above in path.parents}
        for path in sorted(t.root.rglob('*'), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if path not in folders:
                    path.rmdir()
            elif path not in whole or path.is_symlink():
                path.unlink()
        for path, (content, stat) in whole.items():
            if not path.exists() or path.stat().st_mtime_ns != stat.st_mtime_ns:
                path.write_bytes(content)
                os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            path.chmod(0o644)
        return t
