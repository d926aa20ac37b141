"""The report of a pipeline: one self-contained HTML page, made of what the stages left behind."""
