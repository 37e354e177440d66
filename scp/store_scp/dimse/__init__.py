"""DIMSE (PS3.7): what a request must be, and how it is answered."""
