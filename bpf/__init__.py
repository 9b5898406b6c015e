"""The C that runs in the kernel, and the layout of what it hands to user space.

In: nothing. Out: the paths of the C sources and of the header tree they compile
against, and numpy dtypes that mirror the C structs byte for byte.
"""
