"""One night as a DAG of Airflow: a job on a Ray cluster, then the deletion of old nights. Needs astro-provider-ray.

The connection `ray_cluster` has the address of the jobs port. The cluster's nodes run the image of the Dockerfile, and
the environment of the workers has RAY_AUTH_MODE=token and RAY_AUTH_TOKEN. All attempts of a night have the same `{{ ds
}}`, so that each resumes the one before. An attempt on a finished output that must be accepted scores nothing.
"""

from datetime import datetime, timedelta

from airflow.sdk import DAG
from ray_provider.operators import SubmitRayJob

FOLDER = "s3://bucket/reranked"
ON_CLUSTER = {
    "conn_id": "ray_cluster",
    "runtime_env": {},
    "job_timeout_seconds": 0,  # no limit: the default is ten minutes
}

with DAG(
    "rerank_nightly",
    schedule="15 2 * * *",
    start_date=datetime(2026, 11, 24),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
):
    rerank = SubmitRayJob(
        task_id="rerank",
        entrypoint=f"reranker-batch run configs/nightly.yaml --set output.path={FOLDER}/{{{{ ds }}}}",
        **ON_CLUSTER,
    )
    clean = SubmitRayJob(
        task_id="clean",
        entrypoint=f"reranker-batch clean {FOLDER} --keep 7",
        **ON_CLUSTER,
    )
    rerank >> clean
