"""CapFilt: a captioner writes synthetic captions, a filter drops bad web and synthetic texts (paper, section 3.3)."""
