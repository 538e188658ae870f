"""``python -P -m dicom_node``: the same door as the command ``dicom-node``."""

from dicom_node.cli import main

main()
