"""One photo, its truth and what several runs make of it, side by side."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmseg.registry import DATASETS, MODELS
from PIL import Image, ImageDraw

from . import disk, domains, labels, weights
from .confusion import confusion, score
from .engine.checkpoint import newest

_GAP, _CAPTION = 4, 16


def colour(label: np.ndarray, palette: np.ndarray = labels.PALETTE) -> np.ndarray:
    """Paint training classes (H, W) in their colours: uint8 (H, W, 3), ignored is black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    return table[label]


@torch.no_grad()
def predict(run: str | Path, domain: str, data_root: str | Path, index: int) -> np.ndarray:
    """Segment image `index` of `domain` with the checkpoint that a run selected.

    `run` is the work dir of a training: its config (Python, run as such) and its
    `best_iter_N.pth`, or `iter_N.pth` where none was selected. Returns uint8 (H, W).

    Raises:
        FileNotFoundError: no config or no checkpoint in `run`.
    """
    run = Path(run)
    configs = sorted(run.glob('*.py'))
    checkpoint = newest(run, 'best_iter_*.pth') or newest(run)
    if not configs or checkpoint is None:
        raise FileNotFoundError(f'{run}: no run of tools/train.py (config .py and checkpoint)')
    config = Config.fromfile(configs[0])
    config.model.backbone.init_cfg = None
    model = MODELS.build(config.model).eval()
    model.load_state_dict(weights.read(checkpoint)['state_dict'])
    data = config.test_dataloader.dataset
    # As the config's pipeline has it, and by the number among all: what the test left out is here.
    one = dict(domains=[domain], data_root=str(data_root), skip_lists=(), pipelines=None)
    dataset = DATASETS.build(dict(data, **one))
    sample = dataset[index]
    batch = dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']])
    return model.test_step(batch)[0].pred_sem_seg.data[0].numpy().astype(np.uint8)


def panel(
    runs: Sequence[str | Path], domain: str, data_root: str | Path, index: int, out: str | Path
) -> Path:
    """Write a PNG: photo, truth and a prediction a run, each with its name and mIoU.

    Raises:
        DataError: see `domains.find`. ValueError: no such image. FileNotFoundError: no such run.
    """
    pairs = domains.find(domain, data_root)
    if not 0 <= index < len(pairs):
        raise ValueError(f'image {index}: {domain} has images 0 to {len(pairs) - 1}')
    row, _ = domains.parse(domain)
    with Image.open(pairs[index][0]) as file:
        photo = np.asarray(file.convert('RGB'))
    truth = domains.read_labels(pairs[index][1], row.space)
    task = labels.task(row.space)
    tiles = [(f'photo ({domain})', photo), ('truth', colour(truth, task.palette))]
    for run in runs:
        prediction = predict(run, domain, data_root, index)
        miou = score(confusion(truth, prediction, len(task.classes))).miou
        prediction[truth == labels.IGNORE] = labels.IGNORE  # what does not count is not shown
        caption = f'{Path(run).name}: mIoU {100 * miou:.1f} on this image'
        tiles.append((caption, colour(prediction, task.palette)))
    height, width = truth.shape
    rows = -(-len(tiles) // 2)
    sheet = Image.new('RGB', (2 * width + _GAP, rows * (height + _CAPTION + _GAP)), 'white')
    draw = ImageDraw.Draw(sheet)
    for i, (caption, tile) in enumerate(tiles):
        x, y = i % 2 * (width + _GAP), i // 2 * (height + _CAPTION + _GAP)
        draw.text((x + 2, y + 2), caption, fill='black')
        sheet.paste(Image.fromarray(tile), (x, y + _CAPTION))
    out = Path(out)
    content = io.BytesIO()
    sheet.save(content, format='PNG')
    disk.write_atomically(out, content.getvalue())
    return out
