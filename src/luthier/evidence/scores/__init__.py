"""Numbers: scores with intervals, differences with tests, confidence, kinds of rows."""
