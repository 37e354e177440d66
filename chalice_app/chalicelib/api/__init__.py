"""The REST API: who asks where an image, study or job stands, and what they are told."""
