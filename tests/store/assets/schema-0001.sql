BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE attempts (
    job_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    state VARCHAR(16) NOT NULL,
    executor VARCHAR(16) NOT NULL,
    gpus JSON NOT NULL,
    cpus FLOAT NOT NULL,
    claimed_at VARCHAR(32) NOT NULL,
    started_at VARCHAR(32),
    finished_at VARCHAR(32),
    duration_s FLOAT,
    exit_code INTEGER,
    reason TEXT,
    PRIMARY KEY (job_id, number),
    CONSTRAINT ck_attempts_state CHECK (state IN ('failed', 'killed', 'launching', 'lost', 'running', 'succeeded', 'timed_out')),
    CONSTRAINT ck_attempts_finished CHECK ((finished_at IS NOT NULL) = (state IN ('failed', 'killed', 'lost', 'skipped', 'succeeded', 'timed_out'))),
    FOREIGN KEY(job_id) REFERENCES jobs (id)
);
INSERT INTO "attempts" VALUES(1,1,'succeeded','local','[]',1.0,'2026-11-21T09:26:55.391771+00:00','2026-11-21T09:26:55.456267+00:00','2026-11-21T09:26:55.473675+00:00',1.74079640019044745713e-02,0,NULL);
INSERT INTO "attempts" VALUES(2,1,'failed','local','[]',1.0,'2026-11-21T09:26:55.391771+00:00','2026-11-21T09:26:55.473675+00:00','2026-11-21T09:26:55.490129+00:00',1.30197789985686540603e-02,1,'exit code 1');
INSERT INTO "attempts" VALUES(3,1,'succeeded','local','[]',1.0,'2026-11-21T09:26:55.485624+00:00','2026-11-21T09:26:55.529752+00:00','2026-11-21T09:26:55.553429+00:00',1.86978900092071853578e-03,0,NULL);
INSERT INTO "attempts" VALUES(5,1,'running','local','[]',1.0,'2026-11-21T09:26:55.501705+00:00','2026-11-21T09:26:55.613414+00:00',NULL,NULL,NULL,NULL);
CREATE TABLE capacity (
    id INTEGER NOT NULL,
    cpus FLOAT NOT NULL,
    gpus JSON NOT NULL,
    max_parallel INTEGER,
    found_at VARCHAR(32) NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT ck_capacity_one CHECK (id = 1)
);
INSERT INTO "capacity" VALUES(1,2.0,'[]',NULL,'2026-11-21T09:26:55.383616+00:00');
CREATE TABLE dependencies (
    job_id INTEGER NOT NULL,
    parent_id INTEGER NOT NULL,
    kind VARCHAR(16) NOT NULL,
    PRIMARY KEY (job_id, parent_id),
    CONSTRAINT ck_dependencies_kind CHECK (kind IN ('afterany', 'afternotok', 'afterok')),
    CONSTRAINT ck_dependencies_self CHECK (job_id <> parent_id),
    FOREIGN KEY(job_id) REFERENCES jobs (id),
    FOREIGN KEY(parent_id) REFERENCES jobs (id)
);
INSERT INTO "dependencies" VALUES(3,1,'afterok');
INSERT INTO "dependencies" VALUES(4,2,'afterok');
INSERT INTO "dependencies" VALUES(6,5,'afterok');
INSERT INTO "dependencies" VALUES(7,5,'afterany');
INSERT INTO "dependencies" VALUES(7,2,'afterany');
CREATE TABLE environments (
    hash VARCHAR(64) NOT NULL,
    variables JSON NOT NULL,
    secrets JSON NOT NULL,
    PRIMARY KEY (hash)
);
INSERT INTO "environments" VALUES('a92e5b200d971d73f399050015460b898239c5cadd706ed5a23ed299a278c4b1','{"LANG":"C.UTF-8"}','[]');
CREATE TABLE events (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at VARCHAR(32) NOT NULL,
    job_id INTEGER NOT NULL,
    attempt INTEGER,
    kind VARCHAR(16) NOT NULL,
    from_state VARCHAR(16),
    to_state VARCHAR(16),
    reason TEXT,
    FOREIGN KEY(job_id) REFERENCES jobs (id)
);
INSERT INTO "events" VALUES(1,'2026-11-21T09:26:55.041553+00:00',1,NULL,'submitted',NULL,'pending',NULL);
INSERT INTO "events" VALUES(2,'2026-11-21T09:26:55.041553+00:00',2,NULL,'submitted',NULL,'pending',NULL);
INSERT INTO "events" VALUES(3,'2026-11-21T09:26:55.041553+00:00',3,NULL,'submitted',NULL,'pending',NULL);
INSERT INTO "events" VALUES(4,'2026-11-21T09:26:55.041553+00:00',4,NULL,'submitted',NULL,'pending',NULL);
INSERT INTO "events" VALUES(5,'2026-11-21T09:26:55.041553+00:00',5,NULL,'submitted',NULL,'pending',NULL);
INSERT INTO "events" VALUES(6,'2026-11-21T09:26:55.041553+00:00',6,NULL,'submitted',NULL,'pending',NULL);
INSERT INTO "events" VALUES(7,'2026-11-21T09:26:55.041553+00:00',7,NULL,'submitted',NULL,'pending',NULL);
INSERT INTO "events" VALUES(8,'2026-11-21T09:26:55.391771+00:00',1,1,'state','pending','launching',NULL);
INSERT INTO "events" VALUES(9,'2026-11-21T09:26:55.391771+00:00',2,1,'state','pending','launching',NULL);
INSERT INTO "events" VALUES(10,'2026-11-21T09:26:55.473675+00:00',1,1,'state','launching','succeeded',NULL);
INSERT INTO "events" VALUES(11,'2026-11-21T09:26:55.473675+00:00',2,1,'state','launching','running',NULL);
INSERT INTO "events" VALUES(12,'2026-11-21T09:26:55.485624+00:00',3,1,'state','pending','launching',NULL);
INSERT INTO "events" VALUES(13,'2026-11-21T09:26:55.490129+00:00',2,1,'state','running','failed','exit code 1');
INSERT INTO "events" VALUES(14,'2026-11-21T09:26:55.501705+00:00',4,NULL,'state','pending','skipped','fails failed');
INSERT INTO "events" VALUES(15,'2026-11-21T09:26:55.501705+00:00',5,1,'state','pending','launching',NULL);
INSERT INTO "events" VALUES(16,'2026-11-21T09:26:55.529752+00:00',3,1,'state','launching','running',NULL);
INSERT INTO "events" VALUES(17,'2026-11-21T09:26:55.553429+00:00',3,1,'state','running','succeeded',NULL);
INSERT INTO "events" VALUES(18,'2026-11-21T09:26:55.613414+00:00',5,1,'state','launching','running',NULL);
INSERT INTO "events" VALUES(19,'2026-11-21T09:26:55.671586+00:00',8,NULL,'submitted',NULL,'pending',NULL);
CREATE TABLE groups (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    name VARCHAR(128) NOT NULL,
    created_at VARCHAR(32) NOT NULL,
    UNIQUE (name)
);
INSERT INTO "groups" VALUES(1,'old','2026-11-21T09:26:55.041553+00:00');
INSERT INTO "groups" VALUES(2,'second','2026-11-21T09:26:55.671586+00:00');
CREATE TABLE jobs (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    group_id INTEGER NOT NULL,
    name VARCHAR(128) NOT NULL,
    state VARCHAR(16) NOT NULL,
    config JSON NOT NULL,
    environment VARCHAR(64) NOT NULL,
    attempt INTEGER DEFAULT 0 NOT NULL,
    exit_code INTEGER,
    reason TEXT,
    wish VARCHAR(16),
    created_at VARCHAR(32) NOT NULL,
    finished_at VARCHAR(32),
    CONSTRAINT uq_jobs_group_name UNIQUE (group_id, name),
    CONSTRAINT ck_jobs_state CHECK (state IN ('failed', 'killed', 'launching', 'lost', 'pending', 'running', 'skipped', 'succeeded', 'timed_out')),
    CONSTRAINT ck_jobs_finished CHECK ((finished_at IS NOT NULL) = (state IN ('failed', 'killed', 'lost', 'skipped', 'succeeded', 'timed_out'))),
    CONSTRAINT ck_jobs_attempt CHECK (attempt > 0 OR NOT (state IN ('launching', 'running'))),
    CONSTRAINT ck_jobs_wish CHECK (wish IN ('kill', 'force_kill', 'retry')),
    FOREIGN KEY(group_id) REFERENCES groups (id),
    FOREIGN KEY(environment) REFERENCES environments (hash)
);
INSERT INTO "jobs" VALUES(1,1,'ok','succeeded','{"name":"ok","command":["true"],"cwd":"/","env":{},"gpus":0,"cpus":1.0,"timeout_s":null,"grace_s":15.0,"depends_on":[],"remote":null,"metrics":[],"kind":"run"}','a92e5b200d971d73f399050015460b898239c5cadd706ed5a23ed299a278c4b1',1,0,NULL,NULL,'2026-11-21T09:26:55.041553+00:00','2026-11-21T09:26:55.473675+00:00');
INSERT INTO "jobs" VALUES(2,1,'fails','failed','{"name":"fails","command":["false"],"cwd":"/","env":{},"gpus":0,"cpus":1.0,"timeout_s":null,"grace_s":15.0,"depends_on":[],"remote":null,"metrics":[],"kind":"run"}','a92e5b200d971d73f399050015460b898239c5cadd706ed5a23ed299a278c4b1',1,1,'exit code 1',NULL,'2026-11-21T09:26:55.041553+00:00','2026-11-21T09:26:55.490129+00:00');
INSERT INTO "jobs" VALUES(3,1,'after_ok','succeeded','{"name":"after_ok","command":["true"],"cwd":"/","env":{},"gpus":0,"cpus":1.0,"timeout_s":null,"grace_s":15.0,"depends_on":[{"job":"ok","kind":"afterok"}],"remote":null,"metrics":[],"kind":"run"}','a92e5b200d971d73f399050015460b898239c5cadd706ed5a23ed299a278c4b1',1,0,NULL,NULL,'2026-11-21T09:26:55.041553+00:00','2026-11-21T09:26:55.553429+00:00');
INSERT INTO "jobs" VALUES(4,1,'never','skipped','{"name":"never","command":["true"],"cwd":"/","env":{},"gpus":0,"cpus":1.0,"timeout_s":null,"grace_s":15.0,"depends_on":[{"job":"fails","kind":"afterok"}],"remote":null,"metrics":[],"kind":"run"}','a92e5b200d971d73f399050015460b898239c5cadd706ed5a23ed299a278c4b1',0,NULL,'fails failed',NULL,'2026-11-21T09:26:55.041553+00:00','2026-11-21T09:26:55.501705+00:00');
INSERT INTO "jobs" VALUES(5,1,'runs','running','{"name":"runs","command":["sleep","600"],"cwd":"/","env":{},"gpus":0,"cpus":1.0,"timeout_s":null,"grace_s":15.0,"depends_on":[],"remote":null,"metrics":[],"kind":"run"}','a92e5b200d971d73f399050015460b898239c5cadd706ed5a23ed299a278c4b1',1,NULL,NULL,NULL,'2026-11-21T09:26:55.041553+00:00',NULL);
INSERT INTO "jobs" VALUES(6,1,'waits','pending','{"name":"waits","command":["true"],"cwd":"/","env":{},"gpus":0,"cpus":1.0,"timeout_s":60.0,"grace_s":15.0,"depends_on":[{"job":"runs","kind":"afterok"}],"remote":null,"metrics":[],"kind":"run"}','a92e5b200d971d73f399050015460b898239c5cadd706ed5a23ed299a278c4b1',0,NULL,NULL,NULL,'2026-11-21T09:26:55.041553+00:00',NULL);
INSERT INTO "jobs" VALUES(7,1,'any','pending','{"name":"any","command":["true"],"cwd":"/","env":{},"gpus":0,"cpus":1.0,"timeout_s":null,"grace_s":15.0,"depends_on":[{"job":"runs","kind":"afterany"},{"job":"fails","kind":"afterany"}],"remote":null,"metrics":[],"kind":"run"}','a92e5b200d971d73f399050015460b898239c5cadd706ed5a23ed299a278c4b1',0,NULL,NULL,NULL,'2026-11-21T09:26:55.041553+00:00',NULL);
INSERT INTO "jobs" VALUES(8,2,'free','pending','{"name":"free","command":["true"],"cwd":"/","env":{},"gpus":0,"cpus":2.0,"timeout_s":null,"grace_s":15.0,"depends_on":[],"remote":null,"metrics":[],"kind":"run"}','a92e5b200d971d73f399050015460b898239c5cadd706ed5a23ed299a278c4b1',0,NULL,NULL,NULL,'2026-11-21T09:26:55.671586+00:00',NULL);
CREATE INDEX ix_jobs_state ON jobs (state);
CREATE INDEX ix_jobs_wish ON jobs (wish) WHERE wish IS NOT NULL;
CREATE UNIQUE INDEX uq_attempts_live ON attempts (job_id) WHERE finished_at IS NULL;
CREATE INDEX ix_dependencies_parent ON dependencies (parent_id);
CREATE INDEX ix_events_job ON events (job_id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('groups',2);
INSERT INTO "sqlite_sequence" VALUES('jobs',8);
INSERT INTO "sqlite_sequence" VALUES('events',19);
COMMIT;
