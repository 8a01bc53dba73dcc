"""videolift turns videos of hands at work into a checked HDF5 training dataset.

The library half: data types, files and checks. It knows no stage, no model and no workflow engine, and importing it pulls in none.
"""

__version__ = "0.1.0"
