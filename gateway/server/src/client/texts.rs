//! Every French sentence of the command-line client, so that wording is reviewed in one place.
//! Nothing here decides anything: functions only put values into words. Never put a token here.

use std::path::Path;
use std::time::Duration;

use pli_api::{DepositState, Problem};

use super::format::{count, duration, plain, size};

// Help of the command line.
pub(super) const SERVER: &str = "Adresse du serveur, par exemple https://pli.example.fr (ou PLI_SERVER, ou « server » dans le fichier de configuration)";
pub(super) const CA: &str =
    "Autorité de certification à accepter en plus de celles du système, fichier PEM (ou PLI_CA, ou « ca »)";
pub(super) const TOKEN_FILE: &str = "Fichier qui contient le jeton d'accès, lisible de vous seul (ou PLI_TOKEN_FILE, ou « token_file » ; PLI_TOKEN contient le jeton lui-même)";
pub(super) const SEND_PATHS: &str =
    "Fichiers et dossiers à envoyer ; un dossier est envoyé avec tout son contenu, sous son nom";
pub(super) const SEND_TO: &str = "Adresse d'un destinataire ; à répéter pour plusieurs";
pub(super) const SEND_SUBJECT: &str = "Objet du dépôt ; par défaut, le nom de ce qui est envoyé";
pub(super) const SEND_DAYS: &str = "Nombre de jours de conservation, dans les limites du compte";
pub(super) const SEND_AGAIN: &str = "Envoie à nouveau ce qui a déjà été envoyé aux mêmes destinataires";
pub(super) const SEND_RESTART: &str = "Supprime le brouillon inachevé et recommence de zéro";
pub(super) const STREAMS: &str = "Nombre de transferts simultanés";
pub(super) const GIVE_UP: &str =
    "Abandonne après cette durée sans le moindre progrès, par exemple 90s, 15min, 2h";
pub(super) const JSON: &str = "Écrit le résultat en JSON sur la sortie standard";
pub(super) const QUIET: &str = "N'affiche pas la progression";
pub(super) const RECEIVE_ID: &str = "Identifiant du dépôt";
pub(super) const RECEIVE_INTO: &str =
    "Dossier où écrire les documents ; par défaut, un dossier au nom de l'identifiant";
pub(super) const RECEIVE_FORCE: &str = "Remplace les fichiers présents dont le contenu diffère";
pub(super) const LIST_BOX: &str = "Dépôts à lister";
pub(super) const WHICH_RECEIVED: &str = "Ceux que vous avez reçus";
pub(super) const WHICH_SENT: &str = "Ceux que vous avez envoyés";
pub(super) const WHICH_DRAFTS: &str = "Ceux dont l'envoi n'est pas terminé";
pub(super) const LIST_LIMIT: &str = "Nombre de dépôts au plus, les plus récents d'abord";
pub(super) const SEND_ABOUT: &str = "Envoie des fichiers et des dossiers, et reprend seul après une coupure";
pub(super) const RECEIVE_ABOUT: &str = "Télécharge les documents d'un dépôt et vérifie leur empreinte";
pub(super) const LIST_ABOUT: &str = "Liste les dépôts reçus, envoyés ou en préparation";

/// Foot of the help of the three commands; the same table as in `client/mod.rs`.
pub(super) const EXIT_CODES: &str = "\
Codes de sortie :
  0    tout est fait
  1    erreur interne, ou sortie standard fermée
  2    commande ou réglages incorrects
  3    refusé par le serveur (jeton, droits, destinataire inconnu…)
  4    serveur injoignable ou contenu pas encore disponible : réessayer plus tard
  5    empreinte SHA-256 différente, ou document endommagé
  6    fichier local illisible, modifié pendant l'envoi, déjà présent, ou disque plein
  7    limite de taille ou quota dépassés
  130  interrompu (Ctrl-C) : relancer la même commande reprend où elle s'est arrêtée

Réglages : options de la ligne de commande, sinon variables d'environnement, sinon
~/.config/pli/client.toml (server, ca, token_file).";

// Settings.
pub(super) const NO_SERVER: &str = "l'adresse du serveur manque : indiquez --server, PLI_SERVER, ou « server » dans ~/.config/pli/client.toml";
pub(super) const NO_TOKEN: &str =
    "le jeton d'accès manque : indiquez --token-file, PLI_TOKEN_FILE ou PLI_TOKEN";
pub(super) const BAD_TOKEN: &str = "le jeton d'accès est vide ou contient des caractères impossibles";

pub(super) fn bad_server(address: &str) -> String {
    format!("« {} » n'est pas l'adresse d'un serveur : elle doit commencer par https://", plain(address))
}
pub(super) fn clear_text(address: &str) -> String {
    format!(
        "« {} » n'est pas chiffré : le jeton et les documents passeraient en clair ; utilisez https://",
        plain(address)
    )
}
pub(super) fn bad_config(path: &Path, why: &str) -> String {
    format!("le fichier de configuration {} n'est pas utilisable : {}", path.display(), why.trim())
}
pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> String {
    format!("{} : {}", path.display(), io(error))
}
pub(super) fn token_open_to_others(path: &Path, mode: u32) -> String {
    format!(
        "le fichier de jeton {0} est accessible à d'autres que vous (droits {mode:03o}) ; corrigez avec : chmod 600 {0}",
        path.display()
    )
}
pub(super) fn bad_ca(path: &Path) -> String {
    format!("{} ne contient pas de certificat au format PEM", path.display())
}
pub(super) fn no_client(error: &dyn std::fmt::Display) -> String {
    format!("le client ne peut pas être préparé : {error}")
}
pub(super) fn bad_duration(text: &str) -> String {
    format!("« {text} » n'est pas une durée : écrivez par exemple 90s, 15min ou 2h")
}

/// What the operating system reported, in words.
pub(super) fn io(error: &std::io::Error) -> String {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::NotFound => "introuvable".into(),
        Kind::PermissionDenied => "accès refusé".into(),
        Kind::StorageFull => "le disque est plein".into(),
        Kind::QuotaExceeded => "votre quota sur ce disque est atteint".into(),
        Kind::ReadOnlyFilesystem => "le disque est en lecture seule".into(),
        Kind::FileTooLarge => "ce disque n'accepte pas de fichier aussi grand".into(),
        Kind::InvalidFilename => "ce nom n'est pas accepté par ce disque".into(),
        Kind::IsADirectory => "c'est un dossier".into(),
        Kind::NotADirectory => "un élément du chemin n'est pas un dossier".into(),
        Kind::AlreadyExists => "existe déjà".into(),
        _ => format!("erreur du système ({error})"),
    }
}

// Network.
pub(super) const NETWORK: &str = "serveur injoignable ou connexion coupée";
pub(super) const STALLED: &str = "le serveur ne répond plus";
pub(super) fn network(why: &str) -> String {
    if why.is_empty() { NETWORK.into() } else { format!("{NETWORK} ({})", plain(why)) }
}
pub(super) const CLOSED: &str = "fermée sans prévenir";
pub(super) fn untrusted(why: &str) -> String {
    format!(
        "le certificat du serveur n'est pas accepté ({}) ; si son autorité est interne, indiquez-la avec --ca",
        plain(why)
    )
}
fn answered(problem: &Problem) -> String {
    let words = [Some(problem.title.as_str()), problem.detail.as_deref()];
    let words: Vec<String> = words.into_iter().flatten().filter(|w| !w.is_empty()).map(plain).collect();
    let words = if words.is_empty() { "sans explication".to_owned() } else { words.join(" ") };
    let code = if problem.code.is_empty() { String::new() } else { format!("{}, ", plain(&problem.code)) };
    let request = problem.request.as_deref().map(|r| format!(", requête {}", plain(r))).unwrap_or_default();
    format!("{words} ({code}HTTP {}{request})", problem.status)
}
pub(super) fn unavailable(problem: &Problem) -> String {
    format!("le serveur ne peut pas répondre pour le moment : {}", answered(problem))
}
pub(super) fn refused(problem: &Problem) -> String {
    match problem.status {
        401 => format!("le serveur ne reconnaît pas le jeton d'accès : {}", answered(problem)),
        _ => format!("le serveur a refusé : {}", answered(problem)),
    }
}
pub(super) fn unexpected(what: &str) -> String {
    format!("réponse inattendue du serveur : {}", plain(what))
}
pub(super) fn retry(why: &str, pause: Duration) -> String {
    format!("{why} ; nouvel essai dans {}", duration(pause.max(Duration::from_secs(1))))
}
pub(super) const BACK: &str = "connexion rétablie, le transfert continue";
pub(super) fn gave_up(why: &str, waited: Duration) -> String {
    format!("abandon après {} sans progrès : {why}", duration(waited))
}
pub(super) fn interrupted(command: &str) -> String {
    format!("Interrompu. Rien de ce qui est déjà passé n'est perdu ; pour reprendre :\n  {command}")
}
pub(super) fn resume_hint(command: &str) -> String {
    format!("Pour reprendre où le transfert s'est arrêté :\n  {command}")
}
pub(super) const INTERRUPTED: &str = "interrompu";
pub(super) const CRASHED: &str = "erreur interne : une tâche s'est arrêtée de façon imprévue";

// Files to send.
pub(super) fn cannot_send(problems: &[String]) -> String {
    let what = match problems.len() {
        1 => "un élément ne peut pas être lu".to_owned(),
        n => format!("{n} éléments ne peuvent pas être lus"),
    };
    format!("rien n'a été envoyé, car {what} :\n  {}", problems.join("\n  "))
}
pub(super) fn not_utf8(path: &Path) -> String {
    format!("{} : le nom n'est pas en UTF-8 ; renommez le fichier", plain(&path.to_string_lossy()))
}
pub(super) fn control_in_name(path: &Path) -> String {
    format!(
        "{} : le nom contient un caractère de commande ou un saut de ligne ; renommez le fichier",
        plain(&path.to_string_lossy())
    )
}
pub(super) fn empty_folder(path: &Path) -> String {
    format!("le dossier {} ne contient aucun fichier", path.display())
}
pub(super) fn same_name(name: &str) -> String {
    format!("deux fichiers à envoyer portent le même nom : {}", plain(name))
}
pub(super) fn link_ignored(path: &Path) -> String {
    format!("lien symbolique non suivi, non envoyé : {}", plain(&path.to_string_lossy()))
}
pub(super) fn special_ignored(path: &Path) -> String {
    format!("ni fichier ni dossier, non envoyé : {}", plain(&path.to_string_lossy()))
}
pub(super) fn changed(path: &Path) -> String {
    format!(
        "{} a changé pendant l'envoi : le dépôt n'est pas envoyé et son brouillon est supprimé ; relancez la commande quand plus rien n'écrit dans ce fichier",
        plain(&path.to_string_lossy())
    )
}
pub(super) fn read_failed(path: &Path, error: &std::io::Error) -> String {
    format!(
        "{} ne peut plus être lu : {} ; le dépôt n'est pas envoyé",
        plain(&path.to_string_lossy()),
        io(error)
    )
}

// Sending.
pub(super) fn default_subject(first: &str, others: usize) -> String {
    match others {
        0 => first.to_owned(),
        1 => format!("{first} et un autre élément"),
        n => format!("{first} et {n} autres éléments"),
    }
}
pub(super) fn too_large(names: &[(String, u64)], max: u64) -> String {
    let list: Vec<String> =
        names.iter().map(|(name, bytes)| format!("  {} : {}", plain(name), size(*bytes))).collect();
    format!(
        "rien n'a été envoyé : le serveur n'accepte pas de fichier de plus de {} :\n{}",
        size(max),
        list.join("\n")
    )
}
pub(super) fn over_quota(needed: u64, left: u64) -> String {
    format!(
        "rien n'a été envoyé : il faut {} et il ne reste que {} dans votre quota",
        size(needed),
        size(left)
    )
}
pub(super) fn bad_retention(days: u32, min: u32, max: u32) -> String {
    format!("la conservation demandée ({days} jours) n'est pas permise : de {min} à {max} jours")
}
pub(super) fn sending(files: usize, bytes: u64, to: &str) -> String {
    format!("Envoi à {} : {}, {}", plain(to), count(files, "fichier", "fichiers"), size(bytes))
}
pub(super) fn resumed(deposit: &str, there: u64) -> String {
    format!("Brouillon {deposit} repris : {} déjà sur le serveur", size(there))
}
pub(super) fn created(deposit: &str) -> String {
    format!("Brouillon {deposit} créé")
}
pub(super) fn already_sent(when: &str) -> String {
    format!(
        "Ces fichiers ont déjà été envoyés à ces destinataires le {when}, sous cet objet : rien à faire. Pour les envoyer à nouveau, ajoutez --again."
    )
}
pub(super) fn already_sent_differs(deposit: &str) -> String {
    format!(
        "le dépôt {deposit}, déjà envoyé avec la même référence, n'a pas les mêmes documents ; ajoutez --again pour envoyer à nouveau"
    )
}
pub(super) const CHECKING: &str = "Vérification";
pub(super) const SENDING: &str = "Envoi";
pub(super) const RECEIVING: &str = "Réception";
pub(super) fn upload_lost(name: &str) -> String {
    format!("le serveur n'a plus le transfert de {} ; il recommence", plain(name))
}
pub(super) fn upload_keeps_vanishing(name: &str) -> String {
    format!("le transfert de {} disparaît sans cesse du serveur", plain(name))
}
pub(super) fn foreign_document(name: &str) -> String {
    format!(
        "le brouillon contient un document qui n'est pas à envoyer ({}) ; relancez avec --restart",
        plain(name)
    )
}
pub(super) fn digest_differs(name: &str, ours: &str, theirs: &str) -> String {
    format!(
        "{} : l'empreinte diffère ; fichier local {ours}, serveur {} ; le dépôt n'est pas envoyé, relancez avec --restart",
        plain(name),
        plain(theirs)
    )
}
pub(super) fn size_differs(name: &str, ours: u64, theirs: u64) -> String {
    format!(
        "{} : la taille diffère ; fichier local {ours} octets, serveur {theirs} octets ; le dépôt n'est pas envoyé, relancez avec --restart",
        plain(name)
    )
}
pub(super) fn damaged(name: &str) -> String {
    format!("{} est endommagé sur le serveur", plain(name))
}
pub(super) fn damaged_draft(name: &str) -> String {
    format!(
        "{} est endommagé sur le serveur ; le dépôt n'est pas envoyé, relancez avec --restart",
        plain(name)
    )
}
pub(super) fn missing_document(name: &str) -> String {
    format!("{} manque dans le dépôt, alors que le serveur avait tout reçu", plain(name))
}
pub(super) fn never_finished(name: &str) -> String {
    format!("le serveur n'a pas fini de vérifier {} dans le temps accordé", plain(name))
}
pub(super) fn sent(to: &str) -> String {
    format!("Dépôt envoyé à {}, toutes les empreintes sont égales.", plain(to))
}

// Receiving.
pub(super) const NOT_AVAILABLE: &str = "ce dépôt n'est pas encore disponible : réessayez plus tard";
pub(super) const EXPIRED: &str = "ce dépôt a expiré : ses documents ont été supprimés";
pub(super) const NO_DOCUMENT: &str = "ce dépôt ne contient aucun document";
pub(super) fn not_ready(name: &str) -> String {
    format!("{} n'est pas encore disponible", plain(name))
}
pub(super) fn receiving(files: usize, bytes: u64, from: &str) -> String {
    format!("Dépôt de {} : {}, {}", plain(from), count(files, "document", "documents"), size(bytes))
}
pub(super) fn renamed(from: &str, to: &str) -> String {
    format!("« {} » est enregistré sous le nom {to}", plain(from))
}
pub(super) fn present_differs(path: &Path) -> String {
    format!(
        "{} existe déjà avec un autre contenu : il n'est pas remplacé (--force le remplacerait)",
        path.display()
    )
}
pub(super) fn not_a_file(path: &Path) -> String {
    format!("{} existe déjà et n'est pas un fichier ordinaire", path.display())
}
pub(super) fn locked(path: &Path) -> String {
    format!("{} est en cours d'écriture par une autre commande pli", path.display())
}
pub(super) fn received_differs(name: &str, ours: &str, theirs: &str) -> String {
    format!(
        "{} : l'empreinte du contenu reçu ({ours}) n'est pas celle annoncée ({}) ; le fichier n'est pas gardé",
        plain(name),
        plain(theirs)
    )
}
pub(super) fn no_digest(name: &str) -> String {
    format!("le serveur n'annonce pas d'empreinte pour {}", plain(name))
}
pub(super) fn restarting(name: &str) -> String {
    format!(
        "le début de {} présent sur ce disque venait d'un autre contenu : téléchargement repris de zéro",
        plain(name)
    )
}
pub(super) fn received(done: usize, present: usize) -> String {
    let new = count(done, "document reçu et vérifié", "documents reçus et vérifiés");
    let old = count(present, "document déjà présent et vérifié", "documents déjà présents et vérifiés");
    match (done, present) {
        (_, 0) => format!("{new}."),
        (0, _) => format!("{old}."),
        _ => format!("{new}, {old}."),
    }
}
pub(super) const TOO_MUCH: &str = "plus de contenu que demandé";
pub(super) const RANGE_IGNORED: &str =
    "la suite d'un document a été demandée et son début est venu ; --streams 1 peut aider";

// List.
pub(super) const NOTHING: &str = "Aucun dépôt.";
pub(super) const HEAD_ID: &str = "Identifiant";
pub(super) const HEAD_DATE: &str = "Date";
pub(super) const HEAD_FROM: &str = "De";
pub(super) const HEAD_TO: &str = "À";
pub(super) const HEAD_SUBJECT: &str = "Objet";
pub(super) const HEAD_STATE: &str = "État";
pub(super) const HEAD_EXPIRES: &str = "Expire le";
pub(super) fn state(state: DepositState) -> &'static str {
    match state {
        DepositState::Draft => "brouillon",
        DepositState::Sent => "envoyé",
        DepositState::Available => "disponible",
        DepositState::Expired => "expiré",
    }
}
pub(super) fn more(limit: usize) -> String {
    format!("Seuls les {limit} premiers sont montrés ; --limit en montre plus.")
}

// Progress.
/// How far a transfer is.
pub(super) struct Standing {
    pub(super) phase: &'static str,
    /// Bytes.
    pub(super) done: u64,
    pub(super) total: u64,
    /// Bytes a second.
    pub(super) speed: u64,
    pub(super) left: Option<Duration>,
    /// Done, and of how many.
    pub(super) files: (usize, usize),
}

/// A line of its own, for a log.
pub(super) fn progress(at: &Standing) -> String {
    let percent = if at.total == 0 { 100.0 } else { at.done as f64 * 100.0 / at.total as f64 };
    let (done, total) = (size(at.done), size(at.total));
    format!(
        "{} : {done} sur {total} ({} %){}, {}/{}",
        at.phase,
        super::format::decimal(percent, 1),
        pace(at),
        at.files.0,
        count(at.files.1, "fichier", "fichiers")
    )
}

/// Beside a bar, within 80 columns.
pub(super) fn beside_bar(at: &Standing) -> String {
    format!("{} {}/{}{}, {}/{}", at.phase, size(at.done), size(at.total), pace(at), at.files.0, at.files.1)
}

fn pace(at: &Standing) -> String {
    match at.left {
        _ if at.done >= at.total => String::new(),
        Some(left) => format!(", {}/s, reste {}", size(at.speed), duration(left)),
        None => ", à l'arrêt".into(),
    }
}
