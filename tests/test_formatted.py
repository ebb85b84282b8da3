"""A config's text within `formatted.once`."""

import pytest
from mmengine.config import Config

from ibnseg.train import formatted


def test_each_text_is_formatted_once_and_is_the_same(monkeypatch):
    config, calls = Config(dict(a=dict(b=[1, 2]))), []
    format_code = formatted.PLACES[-1].FormatCode

    def counted(text, **options):
        calls.append(text)
        return format_code(text, **options)

    plain = config.pretty_text
    for module in formatted.PLACES:
        monkeypatch.setattr(module, 'FormatCode', counted)
    with pytest.raises(KeyError), formatted.once():
        assert config.pretty_text == config.pretty_text == plain
        assert len(calls) == 1
        config.a.b = [3]
        assert '3' in config.pretty_text and len(calls) == 2
        raise KeyError
    assert all(module.FormatCode is counted for module in formatted.PLACES)
