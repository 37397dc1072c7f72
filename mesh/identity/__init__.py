"""Who is who: workload certificates (`ca`, `secrets`, `rotation`) and tenants' tokens (`tokens`)."""
