"""DICOM series and derived objects: files, headers, geometry."""
