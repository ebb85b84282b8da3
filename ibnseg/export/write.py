"""An export: the file, what it says of itself, and the certificate beside it."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import disk, domains
from ..analysis.networks import is_segmentor
from ..errors import DataError
from ..inference.model import Model
from ..measure import origin
from ..train.config import domain_names
from . import certificate, engines, formats, int8
from .network import Exportable, normalisation

SCHEMA, CERTIFICATE = 'ibnseg-export-1', 'ibnseg-export-certificate-1'
_PHOTOS = 4  # that a certificate is over, where none are given


class CertificateError(ValueError):
    """An export does not give what torch gives. Says where, and by how much."""


def export(
    model: Model,
    to: str,
    photos: Mapping[str, np.ndarray],
    out: Path | None = None,
    inside: bool = False,
    logits: str = 'input',
    ranges: Mapping[str, np.ndarray] | None = None,
) -> tuple[list[Path], dict[str, Any]]:
    """Write a network to a file with its certificate; nothing is left where they do not agree.

    Args:
        to: of `formats.FORMATS`.
        photos: by name, uint8 RGB (H, W, 3) as the network gets them, see `evaluation_photos`.
        out: the file; default: beside the checkpoint, by its name.
        inside, logits: of `Exportable`.
        ranges: photos by name, as `photos`, for an ONNX file in int8; they should be the source's.
            The file in float32 has to agree with torch; the certificate of the one in int8 says
            how far that one does.

    Returns:
        the files, the certificate last, and its content.

    Raises:
        CertificateError: the file does not give what torch gives.
        FileExistsError: `out` is there and not an export of this checkpoint.
        ValueError: a network that cannot be exported, or a format without its package.
    """
    if ranges is not None and to != 'onnx':
        raise ValueError(f'--int8 is of --to onnx alone, not {to}; OpenVINO opens that file')
    out = out or default_name(model, to, inside, logits, ranges is not None)
    if not out.name.endswith(formats.FORMATS[to]):
        raise ValueError(f'--out {out}: expected a name that ends with {formats.FORMATS[to]}')
    _check_free(out, model)
    network = Exportable(model.network, model.config.model.data_preprocessor, inside, logits)
    about = describe(model, inside, logits)
    with disk.new_folder(out.parent, out.name) as folder:
        try:
            files = formats.write(network, to, Path(folder, out.name), about)
        except Exception as error:
            if isinstance(error, OSError | DataError) or str(error).startswith('onnx'):
                raise
            raise ValueError(
                f'{model.name} cannot be exported to {to}: {type(error).__name__}: '
                f'{" ".join(str(error).split())[:400]}'
            ) from error
        engine = engines.open_file(files[0])
        cases = certificate.certify(model, engine, photos)
        if wrong := [case for case in cases if not case.passed]:
            raise CertificateError(_missed(out, wrong))
        if ranges is not None:
            files = [_in_int8(model, files[0], about, ranges)]
            engine = engines.open_file(files[0])
            cases = certificate.certify(model, engine, photos)
        content = _content(out, files, engine, cases, engine.about)
        for file in reversed(files):  # the .bin before the .xml that names it
            file.chmod(0o644)
            os.replace(file, out.with_name(file.name))
    disk.write_atomically(beside(out), json.dumps(content, indent=1) + '\n')
    return [*(out.with_name(file.name) for file in files), beside(out)], content


def beside(out: Path) -> Path:
    """Return the certificate of an export."""
    return out.with_name(out.name + '.certificate.json')


def _in_int8(
    model: Model, file: Path, about: dict[str, Any], ranges: Mapping[str, np.ndarray]
) -> Path:
    images = (photo[None] for photo in ranges.values())
    if not about['input']['normalised_inside']:
        images = (certificate.normalised(model, image) for image in images)
    out = file.with_name(file.name + '.int8')
    about = about | int8.quantise(file, out, images) | dict(ranges_of=[*ranges])
    (onnx,) = formats.need('onnx')
    network = onnx.load(out)
    onnx.helper.set_model_props(network, {formats.KEY: json.dumps(about)})
    onnx.save(network, file)
    out.unlink()
    return file


def default_name(model: Model, to: str, inside: bool, logits: str, in_int8: bool = False) -> Path:
    """Return where an export lies: beside its checkpoint, named by what it is."""
    kind = '.uint8' * inside + '.head' * (logits == 'head') + '.int8' * in_int8
    return model.checkpoint.with_name(f'{model.checkpoint.stem}{kind}{formats.FORMATS[to]}')


def describe(model: Model, inside: bool, logits: str) -> dict[str, Any]:
    """Return what an export says of itself; docs/export.md has the fields."""
    config = model.config
    mean, std, rgb = normalisation(config.model.data_preprocessor)
    known = is_segmentor(config)
    head = model.network.decode_head
    return dict(
        schema=SCHEMA,
        model=model.name,
        trained_on=config.get('source'),
        classes=list(model.classes),
        palette=model.palette.tolist(),
        input=dict(
            name='image',
            type='uint8' if inside else 'float32',
            layout='NHWC' if inside else 'NCHW',
            channels='RGB' if inside or rgb else 'BGR',
            normalised_inside=inside,
            mean=mean,
            std=std,
            channels_of_mean='RGB' if rgb else 'BGR',
            size='any height and width',
        ),
        output=dict(
            name='logits',
            layout='NCHW',
            size='of the input' if logits == 'input' else 'of the head; resize, then argmax',
            resize=dict(mode='bilinear', align_corners=bool(head.align_corners)),
        ),
        checkpoint=dict(file=model.checkpoint.name, sha256=model.sha256),
        protocol=_plain(config.get('protocol')) if known else None,
        test_cfg=_plain(config.model.get('test_cfg')),
        placement=_plain(config.model.backbone.get('placement')),
        **{key: origin.here()[key] for key in ('commit', 'date', 'versions')},
    )


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def evaluation_photos(model: Model, root: str | None, number: int = _PHOTOS) -> list[Path]:
    """Return photos, evenly spaced, of the datasets that a run is measured on.

    Raises ValueError where none of them is there.
    """
    return _photos_of(model, 'test_dataloader', root, number)


def source_photos(model: Model, root: str | None, number: int = int8.PHOTOS) -> list[Path]:
    """Return photos, evenly spaced, that a run was trained on. Errors: `evaluation_photos`."""
    return _photos_of(model, 'train_dataloader', root, number)


def _photos_of(model: Model, loader: str, root: str | None, number: int) -> list[Path]:
    found: list[Path] = []
    if is_segmentor(model.config):
        data = model.config[loader].dataset
        for domain in domain_names(data):
            try:
                pairs = domains.use(domain, root or data.data_root).pairs
            except (DataError, OSError):
                continue
            found += [photo for photo, _ in pairs]
    if not found:
        where = f' below {root or data.data_root}' if is_segmentor(model.config) else ''
        raise ValueError(
            f'the export needs photos, and none of the {loader} of {model.name} are '
            f'there{where}. Name the folder that holds the datasets (--data-root), or photos '
            '(--photos FILE ...)'
        )
    at = np.linspace(0, len(found) - 1, min(number, len(found)))
    return [found[int(i)] for i in at]


def _check_free(out: Path, model: Model) -> None:
    if not out.exists():
        return
    try:
        said = json.loads(beside(out).read_text())['export']['checkpoint']['sha256']
    except (OSError, ValueError, LookupError, TypeError):
        said = None
    if said != model.sha256:
        what = 'an export of another checkpoint' if said else 'something else'
        raise FileExistsError(f'{out} holds {what}. Name another file with --out, or move it away')


def _content(
    out: Path,
    files: Sequence[Path],
    engine: engines.Engine,
    cases: Sequence[certificate.Case],
    about: dict[str, Any],
) -> dict[str, Any]:
    return dict(
        schema=CERTIFICATE,
        file=out.name,
        sha256={file.name: disk.sha256(file) for file in files},
        engine=dict(name=engine.name, version=engine.version, precision=engine.precision),
        expected=dict(label_agreement=certificate.AGREEMENT, logits=certificate.TOLERANCE),
        cases=[case.content() for case in cases],
        export=about,
    )


def _missed(out: Path, wrong: Sequence[certificate.Case]) -> str:
    said = '; '.join(
        f'{case.size[1]}x{case.size[0]}, batch of {len(case.photos)}: '
        f'{100 * case.agreement:.3f} % of the pixels, logits differ by {case.difference:.2g} of '
        f'{case.largest:.2g}'
        for case in wrong
    )
    return (
        f'{out} is not written: the export does not give what torch gives ({said}); expected '
        f'{100 * certificate.AGREEMENT:g} % and {certificate.TOLERANCE:g}. Try another --to'
    )
