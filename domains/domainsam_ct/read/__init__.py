"""Read CT volumes and masks: DICOM, NIfTI, NRRD, MetaImage."""
