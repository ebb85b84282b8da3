"""The card of a package: README.md in the form of Hugging Face's hub."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from .. import domains
from ..measure.records import Record
from ..report import render, sections
from ..report.compare import tabulate
from ..report.grid import Section


def card(manifest: Mapping[str, Any], records: Sequence[Record], note: str) -> str:
    """Return the text: what it is, how it is used, on what it was trained, what was measured."""
    front = dict(
        library_name='ibnseg',
        license=manifest['licence'],
        pipeline_tag='image-segmentation',
        tags=['semantic-segmentation', 'domain-generalization', 'ibn-net'],
        datasets=sorted(_trained(manifest['source'])),
    )
    table = tabulate(records, mixed=True)
    parts = [
        Section(
            text=f'{manifest["model"]}: semantic segmentation into {len(manifest["classes"])} '
            f'classes, trained on {manifest["source"]}.'
        ),
        *([Section(text=note)] if note else []),
        *sections.screen(table),
    ]
    terms = (
        '## Data\n'
        'The weights come from these datasets. Read their terms there before you use or pass on '
        'the weights; what is said of them here is a summary.\n\n'
        + ''.join(f'- {name}: {_home(name)}\n' for name in _trained(manifest['source']))
    )
    usage = (
        '## Use\n'
        '```python\nimport ibnseg\n\nmodel = ibnseg.load(PACKAGE)  # the folder of this file\n'
        "labels = model('photo.jpg').labels\n```\n\n"
        '```bash\nibnseg verify PACKAGE                   # every file as it was written\n'
        'ibnseg verify PACKAGE --data-root data  # and the numbers measured again\n'
        'ibnseg predict PACKAGE photos/ --out predicted\n```\n\n'
    )
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=False)
    return f'---\n{head}---\n\n{usage}{render.markdown(parts)}\n{terms}'


def _trained(source: str) -> list[str]:
    return list(dict.fromkeys(one.name for one in domains.trained_on(source)))


def _home(name: str) -> str:
    row = domains.DOMAINS.get(name)
    if row is None:
        return 'a dataset of its author. Terms: ask there'
    home = row.source if not row.folder.startswith('/') else 'a dataset of its author'
    said = render.markdown([Section(text=row.terms)]).strip() if row.terms else ''
    asked = 'ask there' if row.folder.startswith('/') else 'as stated there'
    return f'{home}. Terms: {said or asked}'
