"""Where moto finds the service; the operation is read from the service model, not from here."""

from local.healthimaging.responses import MedicalImagingResponse

# Image-set actions have the host prefix ``runtime-`` in the service model.
HOST_PATTERN = r"https?://(runtime-)?medical-imaging\.(.+)\.amazonaws\.com"

url_bases = [HOST_PATTERN]
url_paths = {"{0}/.*$": MedicalImagingResponse.dispatch}
