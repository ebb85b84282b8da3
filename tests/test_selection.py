import itertools

import pytest

from ibnseg.measure import selection
from ibnseg.measure.selection import RULES

SOURCES = {'gta5': 'gta5:train', 'camvid': 'camvid:train/0016E5', 'both': ['gta5:train', 'camvid']}
VALIDATED = (['gta5'], ['camvid:val'], ['cityscapes'], ['gta5', 'cityscapes'], ['gta5', 'camvid'])
MEASURED = (['gta5:val'], ['gta5', 'camvid:Seq05VD', 'cityscapes:val'])


def test_names_are_told_apart():
    assert len({rule.name for rule in RULES.values()}) == len(RULES)
    assert [rule.name for rule in RULES.values() if rule.oracle] == ['target oracle']


@pytest.mark.parametrize('option', ['best', '', 'Source', 'target oracle'])
def test_unknown_rule_is_refused_with_the_choice(option):
    with pytest.raises(ValueError, match=rf"'{option}'; choose from \('last', 'source', 'oracle'"):
        selection.find(option)


@pytest.mark.parametrize(
    ('option', 'source', 'validated', 'measured'),
    itertools.product(RULES, SOURCES.values(), VALIDATED, MEASURED),
)
def test_every_rule_on_every_constellation(option, source, validated, measured):
    """What is validated on says honestly which rule selects, or there is a refusal."""
    rule = selection.find(option)
    known = {one.split(':')[0] for one in ([source] if isinstance(source, str) else source)}
    targets = [d for d in measured if d.split(':')[0] not in known]
    foreign = [d for d in validated if d.split(':')[0] not in known]
    given = rule, source, validated, measured
    if option == 'source' and foreign:
        with pytest.raises(ValueError, match=foreign[0]):
            selection.validation(*given)
    elif rule.oracle and not targets:
        with pytest.raises(ValueError, match='no target of source'):
            selection.validation(*given)
    else:
        found = selection.validation(*given)
        assert found == (targets if rule.oracle else validated)
        if option != 'last':
            assert selection.implied(source, found) is rule
    assert selection.implied(source, validated) is RULES['oracle' if foreign else 'source']


def test_the_last_rule_never_takes_a_best_checkpoint():
    assert not any('best' in pattern for pattern in RULES['last'].files)
    assert all('best' in RULES[option].files[0] for option in ('source', 'oracle'))
