"""Operations on a deployment: repair, rebuild, erasure, lineage, source specifications. No Dagster."""
