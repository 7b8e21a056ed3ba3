"""Which files of folders belong together, and what is said of the others."""

import pytest
from PIL import Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import find_stacks, numbered_folders, paired_files


@pytest.fixture
def folders(tmp_path):
    """Fills `a` and `b` with small images: `folders(["x.png"], ["x.jpg"])`."""

    def fill(*names):
        made = [tmp_path / letter for letter, _ in zip("abcd", names, strict=False)]
        for folder, files in zip(made, names, strict=True):
            folder.mkdir()
            for name in files:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                if name.endswith((".png", ".jpg")):
                    Image.new("RGB", (2, 2)).save(folder / name)
                else:
                    (folder / name).write_text("no image")
        return made

    return fill


def test_equal_names_belong_together_whatever_the_suffix(folders):
    a, b = folders(["2.png", "1.png"], ["1.jpg", "2.png"])
    found = find_stacks([a, b])
    assert found.stacks == {
        "1": (a / "1.png", b / "1.jpg"),
        "2": (a / "2.png", b / "2.png"),
    }
    assert not (found.unusable or found.other_files or found.nested)


def test_what_has_no_partner_is_named_with_the_folder_that_lacks_it(folders):
    a, b = folders(["1.png", "2.png"], ["1.png", "3.png"])
    found = find_stacks([a, b])
    assert list(found.stacks) == ["1"]
    assert found.unusable == {
        "2": f"no partner: {b} has no image of this name",
        "3": f"no partner: {a} has no image of this name",
    }


def test_a_link_to_nothing_is_named(folders, tmp_path):
    a, b = folders(["1.png", "2.png"], ["1.png"])
    (b / "2.png").symlink_to(tmp_path / "gone.png")
    assert find_stacks([a, b]).unusable == {"2": f"{b / '2.png'} is a link to nothing"}


def test_two_files_of_one_name_are_not_chosen_from(folders):
    a, b = folders(["1.png", "1.jpg", "2.png"], ["1.png", "2.png"])
    found = find_stacks([a, b])
    assert list(found.stacks) == ["2"]
    assert "1.jpg" in found.unusable["1"]
    assert "1.png have the same name" in found.unusable["1"]


def test_files_of_other_kinds_and_folders_inside_are_listed_and_hidden_ones_are_not(folders):
    a, b = folders(["1.png", "x.xyz", ".x.txt", ".d/1.png", "day/1.png"], ["1.png", "x.txt"])
    (b / "dangling").symlink_to("gone")
    found = find_stacks([a, b])
    assert found.other_files == (a / "x.xyz", b / "dangling", b / "x.txt")
    assert found.nested == (a / "day",)


def test_folders_inside_are_searched_on_request(folders):
    a, b = folders(["1.png", "day/1.png", "day/noon/2.png"], ["1.png", "day/1.jpg", "night/2.png"])
    found = find_stacks([a, b], recursive=True)
    assert found.stacks == {
        "1": (a / "1.png", b / "1.png"),
        "day/1": (a / "day/1.png", b / "day/1.jpg"),
    }
    assert list(found.unusable) == ["day/noon/2", "night/2"]
    assert not found.nested


def test_a_link_to_a_folder_around_it_is_not_followed_for_ever(folders):
    a, b = folders(["1.png", "d/2.png"], ["1.png", "d/2.png"])
    (a / "d" / "up").symlink_to(a, target_is_directory=True)
    assert list(find_stacks([a, b], recursive=True).stacks) == ["1", "d/2"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            (["1.png"], ["2.png"]),
            r"no image of .*a has partners .*: 1: no partner: .*b has no image",
        ),
        ((["1.png"], ["1.txt"]), r"b: no images in this folder \(looked for"),
        ((["day/1.png"], ["day/1.png"]), r"no images .* like .*a/day: --recursive searches them"),
    ],
)
def test_folders_without_any_pair_are_refused(folders, names, message):
    with pytest.raises(UserError, match=message):
        find_stacks(folders(*names))


def test_a_missing_folder_is_named(folders, tmp_path):
    (a,) = folders(["1.png"])
    with pytest.raises(UserError, match="gone: no such folder"):
        find_stacks([a, tmp_path / "gone"])


def test_what_may_be_meant_by_a_folder_without_numbered_folders_is_offered(folders, tmp_path):
    a, b = folders(["image1/1.png"], ["image1/1.png"])
    with pytest.raises(UserError, match=f"2 folders inside have them, like {a}: name one of"):
        numbered_folders(tmp_path)
    for folder in (a, b):
        (folder / "image1").rename(folder / "other")
    with pytest.raises(UserError, match=f"name them: {a} {b}"):
        numbered_folders(tmp_path)


def test_images_that_lie_side_by_side_in_one_folder_are_seen(folders):
    (a,) = folders(["1_vis.png", "1_ir.png"])
    with pytest.raises(UserError, match="found: none; it holds images: put those of each camera"):
        numbered_folders(a)


def test_the_two_forms_of_a_letter_in_unicode_are_one_name(folders):
    composed, apart = "\u00e9", "e\u0301"
    a, b = folders([f"{composed}.png"], [f"{apart}.png"])
    assert find_stacks([a, b]).stacks == {composed: (a / f"{composed}.png", b / f"{apart}.png")}
    assert paired_files(a, b) == [(a / f"{composed}.png", b / f"{apart}.png")]
    (b / f"{composed}.png").touch()
    with pytest.raises(UserError, match="have the same name, so the pair is ambiguous"):
        find_stacks([a, b])
