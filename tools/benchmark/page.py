"""report.html with hundreds of photos in a headless Chromium: how long until it can be used."""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from timing import row

from ibnseg import labels, report
from ibnseg.measure.protocols import protocol_hash
from ibnseg.measure.records import Measurement, Record
from ibnseg.report.page import gallery, html

MODELS = ('resnet50', 'ibn_a', 'ibn_b')
DOMAIN = 'cityscapes:val'
#: Changes of the page's state, and what they wait for.
CLICKS = {
    'sort': '#results thead tr:nth-child(2) button',
    'highlight a class': '[data-class="0"]',
    'hide a model': '[data-model="1"]',
}
CLICKED = """(name) => { const start = performance.now(); document.querySelector(name).click();
    document.body.offsetHeight; return performance.now() - start; }"""


def make_gallery(folder: Path, photos: int, size: tuple[int, int]) -> gallery.Gallery:
    """Photos of smooth noise, label maps of blobs: they compress about as real ones do."""
    stream = np.random.default_rng(0)

    def smooth(channels: int) -> np.ndarray:
        coarse = stream.integers(0, 256, (16, 32, channels), np.uint8)
        made = [
            Image.fromarray(part).resize(size, Image.BICUBIC) for part in np.moveaxis(coarse, 2, 0)
        ]
        return np.stack([np.asarray(one) for one in made], 2)

    listed = []
    for number in range(photos):
        noise = stream.integers(-12, 12, (*size[::-1], 3))
        photo = np.clip(smooth(3) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(photo).save(folder / f'{number}.jpg', quality=85)
        for name in ('truth', *MODELS):
            Image.fromarray((smooth(1)[..., 0] // 14).clip(0, 18)).save(
                folder / f'{number}.{name}.png'
            )
        files = dict(photo=f'{number}.jpg', truth=f'{number}.truth.png')
        predictions = {name: f'{number}.{name}.png' for name in MODELS}
        listed.append(dict(key=f'frame_{number}', why='worst', predictions=predictions, **files))
    content = dict(
        classes=labels.CLASSES, palette=labels.PALETTE.tolist(), domains={DOMAIN: listed}
    )
    (folder / 'gallery.json').write_text(json.dumps(dict(version=1, **content)))
    return gallery.read(folder)


def table() -> report.Table:
    stream, found = np.random.default_rng(0), []
    for model in MODELS:
        protocol = dict(name='native', classes=list(range(19)), images=500)
        matrix = stream.integers(1, 9999, (19, 19))
        measured = Measurement(DOMAIN, 500, protocol, protocol_hash(protocol), matrix)
        found.append(Record(model, 'gta5:train', list(labels.CLASSES), {}, [measured]))
    return report.tabulate(found)


def once(browser: Browser, path: Path) -> dict[str, float]:
    """Return milliseconds since the navigation, and of each click until the layout is done."""
    page = browser.new_page(viewport=dict(width=1280, height=900))
    page.goto(path.as_uri(), wait_until='commit')
    page.wait_for_selector('html[data-ready]')
    found = dict(drawn=float(page.evaluate('document.documentElement.dataset.ready')))
    page.locator('.card').first.scroll_into_view_if_needed()
    start = time.perf_counter()
    painted = "() => document.querySelector('.ground-truth canvas').width > 300"
    page.wait_for_function(painted, polling='raf')
    found['first photo after scrolling there'] = 1e3 * (time.perf_counter() - start)
    found |= {name: page.evaluate(CLICKED, what) for name, what in CLICKS.items()}
    page.close()
    return found


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--photos', type=int, default=300)
    p.add_argument('--size', type=int, nargs=2, default=[640, 320])
    p.add_argument('--repeats', type=int, default=5)
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / 'report.html'
        pictures = make_gallery(path.parent, args.photos, tuple(args.size))
        start = time.perf_counter()
        path.write_text(html(table(), gallery=pictures))
        print(f'{args.photos} photos, {len(MODELS)} models: {path.stat().st_size / 2**20:.1f} MiB')
        print(f'written in {time.perf_counter() - start:.2f} s\n')
        program = shutil.which('chromium')
        browser = playwright.chromium.launch(executable_path=program, args=['--no-sandbox'])
        runs = [once(browser, path) for _ in range(args.repeats)]
    print(row('from opening the file', 'ms'))
    print(row(':--', '--:'))
    for name in runs[0]:
        print(row(name, f'{statistics.median(run[name] for run in runs):.0f}'))


if __name__ == '__main__':
    main()
