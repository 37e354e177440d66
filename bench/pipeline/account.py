"""The account that is simulated: its names, and the product's settings as they are by default."""

from chalicelib.settings import AdmissionSettings, ImportSettings

from local.healthimaging.quotas import QUOTAS, QuotaProfile

REGION = "us-east-1"
LIMITS = QUOTAS[QuotaProfile.Y2026]
BUCKET, RESULTS, DATASTORE = "dicom", "results", "0" * 32
ADMISSION = AdmissionSettings(
    dicom_bucket=BUCKET, state_machine_arn="import", datastore_id=DATASTORE
)
IMPORTS = ImportSettings(
    datastore_id=DATASTORE,
    data_access_role_arn="arn:aws:iam::111122223333:role/import",
    results_bucket=RESULTS,
)
