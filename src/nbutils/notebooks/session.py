"""The one call that a notebook opens with: its parameters checked, its project, plan and tables."""

import inspect
from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import HTML, Markdown

from nbutils.charts import parts, provenance, tables
from nbutils.config.design import Pairing
from nbutils.config.notebook_parameters import NOTEBOOKS, given
from nbutils.protocol import pairing
from nbutils.protocol.plan import Plan
from nbutils.results import tables as results
from nbutils.results.project import Project
from nbutils.runs.types import Run
