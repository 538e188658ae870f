"""A site's own data: the table, the words, the masks, the split by subject."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.examples import write_examples
from dicom_node.scanner import Style, write_study
from models.phantom import Phantom
from models.subjects import SubjectsError, read_table
from models.training.dataset import open_dataset, read_example, sweeps_of
from models.training.subjects import (
    DatasetError,
    Words,
    also_held_out,
    held_out,
    read_words,
)


def test_dicom_and_nifti_of_the_same_people_teach_the_same(
    tmp_path: Path, nifti: Path, people: Sequence[Phantom]
) -> None:
    dicom = tmp_path / "dicom"
    files = [
        write_study(person.scan, dicom / str(number), Style(form="enhanced", seed=number))
        for number, person in enumerate(people[:2])
    ]
    assert all(files)
    write_examples(dicom, tmp_path / "examples", read_words(nifti).layers)
    index = (tmp_path / "examples" / "examples.json").read_text(encoding="utf-8")
    studies = [line.split('"')[3] for line in index.splitlines() if '"study"' in line]
    text = "subject;study\n" + "".join(f"x{study};{study}\n" for study in studies)
    (dicom / "subjects.csv").write_text(text, encoding="utf-8")
    words = read_words(nifti)
    ours = open_dataset(tmp_path / "examples", dicom, words).examples
    theirs = open_dataset(nifti, nifti, words).examples
    for one, other in zip(ours, theirs, strict=False):
        (here, _), (there, labels) = read_example(one, words), read_example(other, words)
        assert labels is not None
        np.testing.assert_array_equal(here.channel("b-mode"), there.channel("b-mode"))
        np.testing.assert_allclose(here.affine, there.affine, atol=1e-3)
        assert here.channels == there.channels


def test_slices_without_a_mask_are_not_taken_for_empty_ones(people: Sequence[Phantom]) -> None:
    labels = people[0].labelmap.copy()
    labels[1] = 0
    first, second = sweeps_of(people[0].scan, labels, (0.6, 0.9))
    assert (len(first.gray), len(second.gray)) == (1, 2)
    assert all(sweep.labels.any((1, 2)).all() for sweep in (first, second))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "subjects.csv is missing"),
        ("subject,pain\nann,1\n", "no column 'study'"),
        ("subject,study\nann,s0\n", "no row in subjects.csv for 4 of the studies: s1"),
        ("subject,study\nann,s0\nben,s0\n", "line 3: its study is there twice"),
        ("subject,study,pain\nann,s0,often\n", "line 2: pain is 'often', not 0 or 1"),
        ("subject,study,age\nann,s0,old\n", "line 2: age is 'old', not a number"),
        ("subject,study,age\nann,s0,nan\n", "line 2: age is 'nan', not a number"),
        ("subject,study\n,s0\n", "line 2: subject is empty"),
    ],
)
def test_a_table_that_cannot_be_used_says_where(nifti: Path, text: str | None, words: str) -> None:
    table = nifti / "subjects.csv"
    table.unlink()
    if text is not None:
        table.write_text(text, encoding="utf-8")
    with pytest.raises((DatasetError, SubjectsError), match=words):
        open_dataset(nifti, nifti, read_words(nifti))


def test_pain_may_be_a_class_or_a_scale(tmp_path: Path) -> None:
    text = "subject,study,pain\na,1,chronic\nb,2,none\nc,3,6\nd,4,2.5\ne,5,\n"
    (tmp_path / "subjects.csv").write_text(text, encoding="utf-8")
    (tmp_path / "layers.toml").write_text(
        'pain_from = 4\n[pain]\n"Chronic" = 1\n"none" = 0\n', encoding="utf-8"
    )
    rows = read_table(tmp_path / "subjects.csv", read_words(tmp_path).pain)
    assert [row.pain for row in rows.values()] == [True, False, True, False, None]


@pytest.mark.parametrize(
    "text", ["[layer]\na = 1", "[layers]\na = 7", "[layers]\na = true", "[layers", "pain = 1",
             "pain_from = [1, 2]", "pain_from = nan", 'pain_from = "4"', "[pain]\na = 2"]
)  # fmt: skip
def test_words_that_cannot_be_used_are_errors(tmp_path: Path, text: str) -> None:
    (tmp_path / "layers.toml").write_text(text, encoding="utf-8")
    with pytest.raises(SubjectsError, match=r"layers\.toml"):
        read_words(tmp_path)


GRADED = '[pain]\nlevels = ["None", "mild", "moderate", "severe"]\n'


def test_pain_may_have_levels_by_name_by_another_word_or_on_a_scale(tmp_path: Path) -> None:
    text = "subject,study,pain\na,1,NONE\nb,2,severe\nc,3,slight\nd,4,\n"
    (tmp_path / "subjects.csv").write_text(text, encoding="utf-8")
    (tmp_path / "layers.toml").write_text(GRADED + "slight = 1\n", encoding="utf-8")
    rows = read_table(tmp_path / "subjects.csv", read_words(tmp_path).pain).values()
    assert [(row.level, row.pain) for row in rows] == [
        (0, False),
        (3, True),
        (1, True),
        (None, None),
    ]
    (tmp_path / "subjects.csv").write_text(
        text + "e,5,0.5\nf,6,1\ng,7,6.9\nh,8,7\n", encoding="utf-8"
    )
    with pytest.raises(
        SubjectsError, match=r"line 6: pain is '0\.5', none of the levels None, mild"
    ):
        read_table(tmp_path / "subjects.csv", read_words(tmp_path).pain)
    words = "pain_from = [1, 4, 7]\n" + GRADED + "slight = 1\n"
    (tmp_path / "layers.toml").write_text(words, encoding="utf-8")
    rows = read_table(tmp_path / "subjects.csv", read_words(tmp_path).pain).values()
    assert [row.level for row in rows] == [0, 3, 1, None, 0, 1, 2, 3]


@pytest.mark.parametrize(
    "text",
    [
        'levels = ["no", "yes"]',
        'levels = ["a", "b", "A"]',
        'levels = ["a", "b", ""]',
        'levels = ["a", "b", 3]',
        """levels = ["a", "b", '"']""",
        f'levels = ["a", "b", "{"c" * 41}"]',
        'levels = ["a", "b", "c"]\nd = 3',
    ],
)
def test_levels_that_cannot_be_are_errors(tmp_path: Path, text: str) -> None:
    (tmp_path / "layers.toml").write_text(f"[pain]\n{text}", encoding="utf-8")
    with pytest.raises(SubjectsError, match=r"layers\.toml: pain"):
        read_words(tmp_path)


@pytest.mark.parametrize("cuts", ["4", "[4]", "[1, 4]", "[1, 7, 4]", "[1, 4, 4]"])
def test_a_scale_is_cut_between_all_levels(tmp_path: Path, cuts: str) -> None:
    (tmp_path / "layers.toml").write_text(f"pain_from = {cuts}\n{GRADED}", encoding="utf-8")
    with pytest.raises(SubjectsError, match="pain_from must be 3 increasing numbers"):
        read_words(tmp_path)


PEOPLE = st.sets(st.text(min_size=1, max_size=8), min_size=2, max_size=40)


@given(PEOPLE, st.text(min_size=9, max_size=12), st.integers(0, 99), st.floats(0.05, 0.95))
def test_so_many_subjects_validate_and_a_new_one_moves_one_at_most(
    names: set[str], added: str, seed: int, share: float
) -> None:
    apart = held_out(names, share, seed)
    assert apart == held_out([*names, *names], share, seed)
    assert len(apart) == min(max(round(share * len(names)), 1), len(names) - 1)
    more = held_out(names | {added}, share, seed) - {added}
    assert len(apart ^ more) <= 1


@given(PEOPLE, PEOPLE, st.integers(0, 99), st.floats(0.05, 0.95))
def test_no_subject_is_on_both_sides_of_masks_and_pain(
    masks: set[str], pain: set[str], seed: int, share: float
) -> None:
    validate = held_out(masks, share, seed)
    learn = frozenset(masks) - validate
    also = also_held_out(pain, (learn, validate), share, seed)
    assert also <= pain
    assert not also & learn
    assert validate & pain <= also
    wanted = max(round(share * len(pain)), 1)
    assert len(also) == min(max(wanted, len(validate & pain)), len(pain - learn))


def test_one_subject_is_not_enough() -> None:
    with pytest.raises(DatasetError, match="to learn from and to validate"):
        held_out(["ann", "ann"], 0.3, 0)


def edit_labels(path: Path, change: object) -> None:
    image = sitk.ReadImage(str(path))
    array = change(sitk.GetArrayFromImage(image))  # type: ignore[operator]
    made = sitk.GetImageFromArray(array)
    if made.GetSize() == image.GetSize():
        made.CopyInformation(image)
    sitk.WriteImage(made, str(path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda labels: labels + 100, "value 100 is no layer"),
        (lambda labels: labels[:, ::-1], "dermis lies below the muscle"),
        (lambda labels: labels[1:], "voxels, but s0"),
        (lambda labels: labels * 0, "empty mask"),
    ],
)
def test_a_mask_that_does_not_fit_its_image_is_named(
    nifti: Path, change: object, words: str
) -> None:
    edit_labels(nifti / "s0_labels.nii.gz", change)
    found = open_dataset(nifti, nifti, read_words(nifti)).examples[0]
    with pytest.raises(DatasetError, match=words) as caught:
        read_example(found, read_words(nifti))
    assert "s0_labels.nii.gz" in str(caught.value)


def test_a_site_says_what_its_numbers_mean(nifti: Path) -> None:
    edit_labels(nifti / "s0_labels.nii.gz", lambda labels: np.where(labels == 3, 13, labels))
    words = Words({"#13": 3})
    _, labels = read_example(open_dataset(nifti, nifti, words).examples[0], words)
    assert labels is not None
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4, 5, 6}


def test_a_mask_alone_is_an_error(nifti: Path) -> None:
    (nifti / "s1.nii.gz").unlink()
    with pytest.raises(DatasetError, match="has no image s1"):
        open_dataset(nifti, nifti, read_words(nifti))
