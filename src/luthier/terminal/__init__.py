"""What a person sees: progress.py while work goes on, printers.py for what it found, streams.py for both.

80 columns, any encoding. Import from the files: `luthier --help` must not wait for what a score table needs.
"""
