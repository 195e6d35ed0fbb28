"""Work and indexes that span machines: Milvus and Ray, both optional. `extras.cluster` is the only way in."""
