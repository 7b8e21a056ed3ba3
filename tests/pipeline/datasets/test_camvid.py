"""CamVid's published colours, and the classes that they are grouped into."""

import pytest

from ditfuse_jax.pipeline.datasets import DATASETS
from ditfuse_jax.tasks import STREET_CLASSES

# Name -> colour as in label_colors.txt of the data set, and the class it belongs to.
PUBLISHED = {
    "Animal": ((64, 128, 64), "pedestrian"),
    "Archway": ((192, 0, 128), "building"),
    "Bicyclist": ((0, 128, 192), "cyclist"),
    "Bridge": ((0, 128, 64), "building"),
    "Building": ((128, 0, 0), "building"),
    "Car": ((64, 0, 128), "car"),
    "CartLuggagePram": ((64, 0, 192), "pedestrian"),
    "Child": ((192, 128, 64), "pedestrian"),
    "Column_Pole": ((192, 192, 128), "pole"),
    "Fence": ((64, 64, 128), "fence"),
    "LaneMkgsDriv": ((128, 0, 192), "road"),
    "LaneMkgsNonDriv": ((192, 0, 64), "road"),
    "Misc_Text": ((128, 128, 64), "sign"),
    "MotorcycleScooter": ((192, 0, 192), "cyclist"),
    "OtherMoving": ((128, 64, 64), "car"),
    "ParkingBlock": ((64, 192, 128), "pavement"),
    "Pedestrian": ((64, 64, 0), "pedestrian"),
    "Road": ((128, 64, 128), "road"),
    "RoadShoulder": ((128, 128, 192), "pavement"),
    "Sidewalk": ((0, 0, 192), "pavement"),
    "SignSymbol": ((192, 128, 128), "sign"),
    "Sky": ((128, 128, 128), "sky"),
    "SUVPickupTruck": ((64, 128, 192), "car"),
    "TrafficCone": ((0, 0, 64), "pole"),
    "TrafficLight": ((0, 64, 64), "sign"),
    "Train": ((192, 64, 128), "car"),
    "Tree": ((128, 128, 0), "tree"),
    "Truck_Bus": ((192, 128, 192), "car"),
    "Tunnel": ((64, 0, 64), "building"),
    "VegetationMisc": ((192, 192, 0), "tree"),
    "Wall": ((64, 192, 0), "building"),
}
VOID = (0, 0, 0)


@pytest.fixture
def colors():
    (layout,) = [layout for layout in DATASETS["camvid"].layouts if layout.label_colors]
    return layout.label_colors


def test_every_published_colour_has_its_class(colors):
    names = [words[0] for words in STREET_CLASSES]
    expected = {color: names.index(name) for color, name in PUBLISHED.values()}
    assert dict(colors) == expected | {VOID: len(STREET_CLASSES)}
