-- A readings database of schema 1 as it was first released: written by it, then dumped.
BEGIN TRANSACTION;
CREATE TABLE nodules (
            id TEXT NOT NULL PRIMARY KEY,
            image TEXT NOT NULL,
            x_lps_mm REAL NOT NULL,
            y_lps_mm REAL NOT NULL,
            z_lps_mm REAL NOT NULL,
            UNIQUE (id, image)
        ) STRICT;
INSERT INTO "nodules" VALUES('035ca18dc38b','ct',1.25,-2.0,3.0);
INSERT INTO "nodules" VALUES('773a0634683c','ct',60.0,0.0,0.0);
CREATE TABLE readings (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            image TEXT NOT NULL,
            nodule TEXT NOT NULL,
            reader TEXT NOT NULL,
            evidence TEXT NOT NULL,
            radius_mm REAL NOT NULL,
            arrived_at TEXT NOT NULL,
            document TEXT NOT NULL CHECK (json_valid(document)),
            FOREIGN KEY (nodule, image) REFERENCES nodules (id, image)
        ) STRICT;
INSERT INTO "readings" VALUES(1,'first','ct','035ca18dc38b','ann','impression',6.25,'2026-11-28T04:57:25.191213+00:00','{"schema": "resmtnet.reading/1", "id": "first", "image": "ct", "nodule": "035ca18dc38b", "centre_lps_mm": [1.25, -2.0, 3.0], "reader": "ann", "made_at": "2026-01-31T12:00:00+00:00", "source": "markups", "class": "malignant", "malignancy": 4, "size": {"long_axis_mm": 12.5}, "characteristics": {"texture": 5}, "evidence": "impression", "acceptance": "single", "excluded": false, "comment": "\"Grüße\", said\nthe reader", "patient": "p1", "mask": null, "answered": {"model_version": "2", "model_sha256": "ab", "finding": {"class": {"name": "benign"}}, "seen": false}}');
INSERT INTO "readings" VALUES(2,'second','ct','035ca18dc38b','ann','impression',0.0,'2026-11-28T04:57:25.194812+00:00','{"schema": "resmtnet.reading/1", "id": "second", "image": "ct", "nodule": "035ca18dc38b", "centre_lps_mm": [1.25, -2.0, 3.0], "reader": "ann", "made_at": "2026-01-31T12:00:00+00:00", "source": "rest", "class": "benign", "malignancy": null, "size": {}, "characteristics": {}, "evidence": "impression", "acceptance": "single", "excluded": false, "comment": "", "patient": null, "mask": null, "answered": null}');
INSERT INTO "readings" VALUES(3,'third','ct','773a0634683c','bob','histology',0.0,'2026-11-28T04:57:25.197102+00:00','{"schema": "resmtnet.reading/1", "id": "third", "image": "ct", "nodule": "773a0634683c", "centre_lps_mm": [60.0, 0.0, 0.0], "reader": "bob", "made_at": "2026-01-31T12:00:00+00:00", "source": "rest", "class": "benign", "malignancy": null, "size": {}, "characteristics": {}, "evidence": "histology", "acceptance": "single", "excluded": false, "comment": "", "patient": null, "mask": null, "answered": null}');
CREATE INDEX nodules_by_image ON nodules (image);
CREATE INDEX readings_by_image ON readings (image);
CREATE INDEX readings_by_nodule ON readings (nodule, reader, evidence, sequence);
CREATE TRIGGER nodules_update BEFORE UPDATE ON nodules BEGIN SELECT RAISE(ABORT, 'nodules are append-only'); END;
CREATE TRIGGER nodules_delete BEFORE DELETE ON nodules BEGIN SELECT RAISE(ABORT, 'nodules are append-only'); END;
CREATE TRIGGER nodules_replace BEFORE INSERT ON nodules WHEN EXISTS (SELECT 1 FROM nodules WHERE id = NEW.id) BEGIN SELECT RAISE(ABORT, 'nodules are append-only'); END;
CREATE TRIGGER readings_update BEFORE UPDATE ON readings BEGIN SELECT RAISE(ABORT, 'readings are append-only'); END;
CREATE TRIGGER readings_delete BEFORE DELETE ON readings BEGIN SELECT RAISE(ABORT, 'readings are append-only'); END;
CREATE TRIGGER readings_replace BEFORE INSERT ON readings WHEN EXISTS (SELECT 1 FROM readings WHERE id = NEW.id OR sequence = NEW.sequence) BEGIN SELECT RAISE(ABORT, 'readings are append-only'); END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('readings',3);
COMMIT;
