"""The code blocks of the documents, for the tests that run them."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / 'docs'


def blocks(document: str, section: str, language: str = 'python') -> list[str]:
    """Return the code blocks of one `##` section of docs/`document`; at least one."""
    text = (DOCS / document).read_text(encoding='utf-8')
    sections = dict(re.findall(r'^## (.+)\n((?:(?!## ).*\n?)*)', text, re.M))
    found = re.findall(rf'^```{language}\n(.*?)^```', sections[section], re.M | re.S)
    assert found, f'{document}, {section}: no block of {language}'
    return found
