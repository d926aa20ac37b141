"""Prefect flows over the stages of dvc.yaml: they know the stages by name and import no torch."""
