"""For all tests: no deadline for a property, since a shared machine stalls now and then."""

from hypothesis import settings

settings.register_profile("tailrace", deadline=None)
settings.load_profile("tailrace")
