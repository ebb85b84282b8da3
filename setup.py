"""Package metadata; pins for a reproducible set-up are in constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r"__version__ = '(.+)'", (here / 'ibnseg' / '__init__.py').read_text())[1]

setup(
    name='ibnseg',
    version=version,
    description='Semantic segmentation that holds up on streets it was never trained on',
    long_description=(here / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=[*find_packages(include=['ibnseg', 'ibnseg.*']), 'ibnseg_tools', 'ibnseg.configs'],
    # The scripts in tools/ are the installed command, too: one parser each, no torch for --help.
    package_dir={'ibnseg_tools': 'tools', 'ibnseg.configs': 'configs'},
    package_data={
        'ibnseg': ['py.typed'],
        'ibnseg.audit': ['browse.html', 'browse.css'],
        'ibnseg.configs': ['**/*.py'],  # files that MMEngine reads; `ibnseg.named` finds them
        'ibnseg.inference.page': ['page.html', 'page.css', 'page.js'],
        'ibnseg.report': ['*.yaml'],
        'ibnseg.report.page': ['page.html', 'page.css', 'page.js'],
        'ibnseg.splits': ['*.txt'],
    },
    install_requires=[
        'torch>=2.4',
        'numpy>=2',
        'pillow',
        'opencv-python',
        'jinja2',
        'rich',
        'safetensors',
        'pooch',
        'PyYAML',
        'scipy',
    ],
    extras_require={
        'onedl': ['onedl-mmsegmentation>=1.4', 'onedl-mmengine', 'onedl-mmcv', 'ftfy', 'regex'],
        'openmmlab': ['mmsegmentation==1.2.2', 'mmengine==0.10.7', 'mmcv<2.2', 'ftfy', 'regex'],
        'fast': ['imagecodecs'],  # PNG photos decoded in half the time (ibnseg.pipeline.photos)
        'export': ['onnx', 'onnxscript', 'onnxruntime', 'openvino'],  # ibnseg export, test --engine
        'timm': ['timm', 'torchvision'],  # backbones of configs/foundation
        'docs': ['mkdocs-material'],  # the documentation as a site: mkdocs build
        'cluster': ['submitit'],  # sweep and finetune --on local:N|slurm
        'page': ['werkzeug>=3'],  # ibnseg demo-page
        # Not in 'test': MMPretrain does not import beside transformers 5.
        'hf': ['transformers; python_version >= "3.11"'],  # ibnseg test --model hf:
        'completion': ['argcomplete'],  # of commands and names in a shell
        'corruptions': ['imagecorruptions-imaug'],  # ibnseg analyze corruptions
        'test': [
            *('hypothesis', 'markdown-it-py', 'pytest', 'pytest-xdist', 'ruff'),
            'cityscapesscripts',
            'argcomplete',
            'mkdocs-material',
            *('onnx', 'onnxscript', 'onnxruntime', 'openvino'),
            'imagecorruptions-imaug',
            'submitit',
            'setuptools>=71',  # builds the wheel that is tested
            'werkzeug>=3',
            'tensorboard',  # the others of --track are tested where they are installed
            'playwright',  # with a Chromium of the system: the report's page
        ],
    },
    entry_points={'console_scripts': ['ibnseg = ibnseg_tools.cli:main']},
)
