"""Whatever is changed in a valid file: it loads, or one kind of error says why not."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils.config.tiers import load_tier
from support import fuzz_targets as targets
from support.fuzz_targets import EDITS, VALUES, edited, places, replaced
from support.tiny import REPOSITORY

TIER = (REPOSITORY / "notebooks" / "tiers" / "smoke.yml").read_bytes()
TIER_VALUES = yaml.safe_load(TIER)
MANIFEST = json.dumps(targets.MANIFEST_VALUES).encode()
# long enough for a busy machine, and shorter than any hang
patient = settings(max_examples=100, deadline=timedelta(seconds=20))


@pytest.fixture(scope="module")
def tier(tmp_path_factory: pytest.TempPathFactory) -> targets.Check:
    return targets.tier(tmp_path_factory.mktemp("tier"))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> targets.Check:
    return targets.manifest(tmp_path_factory.mktemp("manifest"))


@patient
@given(EDITS)
def test_edited_tiers(tier: targets.Check, edits: list[tuple[float, int, bytes]]) -> None:
    tier(edited(TIER, edits))


@patient
@given(st.sampled_from(places(TIER_VALUES)), VALUES)
def test_tiers_with_another_value(tier: targets.Check, place: tuple[Any, ...], new: Any) -> None:
    tier(yaml.safe_dump(replaced(TIER_VALUES, place, new)).encode())


@patient
@given(EDITS)
def test_edited_manifests(manifest: targets.Check, edits: list[tuple[float, int, bytes]]) -> None:
    manifest(edited(MANIFEST, edits))


@patient
@given(st.sampled_from(places(targets.MANIFEST_VALUES)), VALUES)
def test_manifests_with_another_value(
    manifest: targets.Check, place: tuple[Any, ...], new: Any
) -> None:
    manifest(json.dumps(replaced(targets.MANIFEST_VALUES, place, new)).encode())


def test_the_targets_take_what_is_valid(
    tier: targets.Check, manifest: targets.Check, tmp_path: Path
) -> None:
    """Or no mutation would get far."""
    for check, valid in ((tier, TIER), (manifest, MANIFEST)):
        check(valid)
    assert not isinstance(targets.told(lambda: load_tier("smoke", REPOSITORY)), Exception)


@pytest.mark.parametrize(
    "content",
    [
        100_000 * b"[",
        b'{"schema_version":' + 100_000 * b"[",
        MANIFEST.replace(b'"embed_texts"', b'"../../.."'),
        MANIFEST.replace(targets.KEY.encode(), b"../../../../etc/passwd"),
        MANIFEST.replace(b'"cpu"', "\u2028".encode()),
        MANIFEST.replace(b'"threads": 1', b'"threads": 1e400'),
        MANIFEST.replace(b'"texts": 3', b'"texts": ' + 5000 * b"9"),
        MANIFEST.replace(b'"cpu"', b'"\\ud800"'),
    ],
)
def test_manifests_that_were_thought_of(manifest: targets.Check, content: bytes) -> None:
    manifest(content)
