//! Which nodes a certificate is for.

use crate::TlsError;
use rustls::pki_types::{CertificateDer, ServerName};
use teleport_proto::NodeName;
use webpki::EndEntityCert;

/// What a URI that names a node begins with.
const SCHEME: &str = "teleport://";

/// Whether it is for the node of that name. If it names nodes, that is one of them; if not, the node's host is one of its hosts.
pub(super) fn check(certificate: &CertificateDer<'_>, name: &NodeName) -> Result<(), TlsError> {
    let unreadable = |error| TlsError::Failed(format!("the certificate cannot be read: {error}"));
    let certificate = EndEntityCert::try_from(certificate).map_err(unreadable)?;
    let nodes: Vec<_> = certificate.valid_uri_names().filter_map(|uri| uri.strip_prefix(SCHEME)).collect();
    let host = name.as_str().rsplit_once('@').map_or("", |(_, host)| host);
    let fits = match nodes[..] {
        [] => ServerName::try_from(host)
            .is_ok_and(|host| certificate.verify_is_valid_for_subject_name(&host).is_ok()),
        _ => nodes.contains(&name.as_str()),
    };
    if fits {
        return Ok(());
    }
    let named = match nodes[..] {
        [] => certificate.valid_dns_names().collect(),
        _ => nodes,
    };
    Err(TlsError::WrongName { name: name.clone(), named: named.join(", ") })
}
