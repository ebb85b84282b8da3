"""Configs by name, and the command's own words."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ibnseg_tools import cli

from ibnseg import __version__, command, named

ROOT = Path(__file__).parents[1]


def test_names_are_those_of_the_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts}
    assert {*named.names().values()} == files
    for name, path in named.names().items():
        assert named.find(name) == named.find(f'configs/{name}.py') == str(path)
        assert named.title(path), f'{path}: no docstring'


def test_a_file_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'miniature').mkdir()
    Path('miniature/ibn_b.py').write_text('')
    assert named.find('miniature/ibn_b.py') == 'miniature/ibn_b.py'
    assert named.find('other.py') == 'other.py'  # its reader says that it is not there
    assert named.find('ibn_a_faster_rcnn_coco').endswith('detection/ibn_a_faster_rcnn_coco.py')


@pytest.mark.parametrize(
    ('name', 'said'),
    [
        ('ibn_b_gta5_to_cityscape', "did you mean 'ibn_b_gta5_to_cityscapes'"),
        ('ibn_b', 'several configs; choose from camvid/ibn_b, miniature/ibn_b'),
        ('_base_/models/fcn_ibn_r50', 'no such config'),
        ('nothing', 'ibnseg configs lists'),
    ],
)
def test_what_is_no_name_is_explained(name, said, capsys):
    with pytest.raises(ValueError, match=said):
        named.find(name)
    p = command.parser('train', '')
    p.add_argument('config', type=command.config)
    with pytest.raises(SystemExit):
        p.parse_args([name])
    assert said in capsys.readouterr().err


def test_bases_are_all_that_a_config_inherits():
    path = Path(named.find('ibn_b_deeplabv3plus_cityscapes_to_gta5'))
    found = {file.name for file in named.bases(path)}
    assert {path.name, 'deeplabv3plus_ibn_r50.py', 'gta5_to_cityscapes.py'} <= found


def test_every_command_has_its_module_and_its_line():
    for name in cli.COMMANDS:
        assert (ROOT / 'tools' / f'{name.replace("-", "_")}.py').is_file()
        assert cli._load(name).parser().prog == f'ibnseg {name}'
    assert cli.version().startswith(f'ibnseg {__version__}, torch ')


def completed(line: str, tmp_path) -> list[str]:
    """What argcomplete offers, as a shell asks for it."""
    out = tmp_path / 'out'
    environment = dict(
        os.environ, _ARGCOMPLETE='1', _ARGCOMPLETE_IFS='\n', _ARGCOMPLETE_STDOUT_FILENAME=str(out),
        COMP_LINE=line, COMP_POINT=str(len(line)), COMP_TYPE='9',
    )  # fmt: skip
    subprocess.run([sys.executable, '-m', 'ibnseg'], env=environment, cwd=ROOT, timeout=120)
    return [word.strip() for word in out.read_text().split('\n')]


@pytest.mark.parametrize(
    ('line', 'word'),
    [
        ('ibnseg pre', 'predict'),
        ('ibnseg train miniature/ibn_a', 'miniature/ibn_a'),
        ('ibnseg train --sel', '--select'),
        ('ibnseg train x.py --select ora', 'oracle'),
        ('ibnseg test x.py y.pth --domains acd', 'acdc'),
        ('ibnseg weights insp', 'inspect'),
    ],
)
def test_a_shell_completes(line, word, tmp_path):
    pytest.importorskip('argcomplete')
    assert word in completed(line, tmp_path)


def test_the_model_index_names_every_config():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    files = {one['Config'] for one in index['Models']}
    assert files == {path.relative_to(ROOT).as_posix() for path in named.names().values()}
    collections = {one['Name'] for one in index['Collections']}
    for one in index['Models']:
        assert one['Name'] == one['Config'].removeprefix('configs/').removesuffix('.py')
        assert one['In Collection'] in collections
        assert 'Weights' not in one and 'Results' not in one  # none are published


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert cited['version'] == __version__ and cited['license'] == 'Apache-2.0'
    paper, *_ = cited['references']
    assert paper['year'] == 2018 and paper['authors'][0]['family-names'] == 'Pan'
